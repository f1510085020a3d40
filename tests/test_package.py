"""What `import tresnet_det` prints and loads, and where its version is said."""

import re
import subprocess
import sys

import pytest
import yaml

import tresnet_det

TEXTS = ('.py', '.md', '.toml', '.yml', '.cff', '.in')
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


def test_the_version_is_said_in_one_place(project_root):
    """And as the newest one in the changelog."""
    version = re.compile(rf'(?<![\d.]){re.escape(tresnet_det.__version__)}(?![\d.])')
    files = [path for path in project_root.glob('*.*') if path.suffix in TEXTS]
    for folder in ('tresnet_det', 'tools', 'docs', '.github'):
        files += [p for p in (project_root / folder).rglob('*') if p.suffix in TEXTS]
    said = [path.name for path in files if version.search(path.read_text('utf-8'))]
    assert sorted(said) == ['CHANGELOG.md', '__init__.py']
    changes = (project_root / 'CHANGELOG.md').read_text()
    assert re.search(r'^## \[(\d[^]]*)\]', changes, re.MULTILINE)[1] == tresnet_det.__version__


def test_the_workflow_checks_every_python_that_the_metadata_names(project_root):
    text = (project_root / '.github/workflows/ci.yml').read_text()
    (job,) = yaml.safe_load(text)['jobs'].values()
    named = re.findall(r'Python :: (3\.\d+)"', (project_root / 'pyproject.toml').read_text())
    assert job['strategy']['matrix']['python'] == named
    used = [step['uses'] for step in job['steps'] if 'uses' in step]
    assert job['steps'][len(used)] == {'run': '.ci/run'}
    assert all(re.fullmatch(r'[\w/-]+@[0-9a-f]{40}', name) for name in used)
