import subprocess
import sys


def run(code):
    return subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=False)


def test_importing_prints_nothing():
    result = run('import tresnet_det')
    assert (result.returncode, result.stdout, result.stderr) == (0, '', '')


def test_importing_leaves_the_heavy_parts_for_their_first_use():
    heavy = ['mmcv.ops', 'mmdet.models', 'mmdet.evaluation', 'torchvision', 'sklearn', 'matplotlib']
    result = run(f'import sys, tresnet_det; print([m for m in {heavy} if m in sys.modules])')
    assert result.stdout.strip() == '[]', result.stderr


def test_importing_loads_no_package_that_its_base_does_not():
    """What its time depends on, without a clock."""
    loaded = [
        set(run(f'{code}\nimport sys\nprint(*sys.modules)').stdout.split())
        for code in ('import mmdet.registry, mmengine.model', 'import tresnet_det')
    ]
    base, ours = ({name.partition('.')[0] for name in names} for names in loaded)
    assert ours - base == {'tresnet_det'}
