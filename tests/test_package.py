"""What `import tresnet_det` prints and loads."""

import subprocess
import sys

import pytest

# What the time of an import depends on, without a clock.
BASE = 'import mmdet.registry, mmengine.model'


@pytest.fixture(scope='module')
def loaded():
    """What ``import tresnet_det`` loads, and what its base does, each in a process of its own."""

    def run(code):
        command = [sys.executable, '-c', f'{code}\nimport sys\nprint(*sys.modules)']
        return subprocess.run(command, capture_output=True, text=True, check=True)

    return run('import tresnet_det'), run(BASE)


def test_importing_prints_nothing(loaded):
    assert len(loaded[0].stdout.splitlines()) == 1  # the test's own
    assert loaded[0].stderr == ''


def test_importing_leaves_the_heavy_parts_for_their_first_use(loaded):
    heavy = {'mmcv.ops', 'mmdet.models', 'mmdet.evaluation', 'torchvision', 'sklearn', 'matplotlib'}
    assert not heavy & set(loaded[0].stdout.split())


def test_importing_loads_no_package_that_its_base_does_not(loaded):
    ours, base = ({m.partition('.')[0] for m in done.stdout.split()} for done in loaded)
    assert ours - base - sys.stdlib_module_names == {'tresnet_det'}
