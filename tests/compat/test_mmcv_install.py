"""Which mmcv is accepted, and that MMDetection imports in any order."""

import os
import subprocess
import sys
from importlib import machinery, metadata
from pathlib import Path

import pytest

from tresnet_det.compat import installed

ROOT = Path(__file__).parents[2]


def pretend_installed(monkeypatch, **versions: str) -> None:
    """Pretend that exactly these mmcv distributions are installed."""

    def version(name: str) -> str:
        key = name.replace('-', '_')
        if key not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[key]

    monkeypatch.setattr(installed.metadata, 'version', version)


def test_no_mmcv_says_what_to_install(monkeypatch):
    pretend_installed(monkeypatch)
    monkeypatch.setattr(installed.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(ImportError, match=r'tresnet_det\[lite\].*mmcv-lite==2\.1\.0') as caught:
        installed.check_mmcv()
    assert '\n' not in str(caught.value)


def test_both_distributions_are_refused_by_name(monkeypatch):
    pretend_installed(monkeypatch, mmcv='2.1.0', mmcv_lite='2.0.1')
    with pytest.raises(ImportError, match='mmcv 2.1.0 and mmcv-lite 2.0.1.*pip uninstall'):
        installed.check_mmcv()


@pytest.mark.parametrize('version', ['2.2.0', '1.7.2', '2.0.0rc3'])
def test_a_version_that_mmdet_refuses_names_the_one_that_fits(monkeypatch, version):
    pretend_installed(monkeypatch, mmcv_lite=version)
    with pytest.raises(ImportError, match=r'mmcv-lite .*pip install mmcv-lite==2\.1\.0'):
        installed.check_mmcv()


@pytest.mark.parametrize('version', ['2.1.0', '2.0.0rc4', '2.0.1'])
def test_versions_that_mmdet_takes_pass(monkeypatch, version):
    pretend_installed(monkeypatch, mmcv=version)
    installed.check_mmcv()


def test_a_compiled_extension_is_recognised_by_its_file(monkeypatch, tmp_path):
    spec = machinery.ModuleSpec('mmcv', None, is_package=True)
    spec.submodule_search_locations.append(str(tmp_path))
    monkeypatch.setattr(installed.importlib.util, 'find_spec', lambda name: spec)
    assert not installed.has_compiled_ops()
    (tmp_path / f'_ext{machinery.EXTENSION_SUFFIXES[0]}').touch()
    assert installed.has_compiled_ops()


def test_preparing_again_changes_nothing():
    from mmengine.runner.checkpoint import CheckpointLoader

    from tresnet_det import compat

    before = list(sys.meta_path), CheckpointLoader.load_checkpoint
    compat.prepare()
    assert (list(sys.meta_path), CheckpointLoader.load_checkpoint) == before


def test_mmdet_fails_before_the_package_and_imports_after_a_config_that_names_it(tmp_path):
    """One process for both orders, since each costs an import of torch and MMDetection."""
    config = tmp_path / 'config.py'
    config.write_text("custom_imports = dict(imports=['tresnet_det'])")
    code = f"""
import sys
try:
    import mmdet.apis
except ModuleNotFoundError as error:
    print(error.name)
from mmengine.config import Config
Config.fromfile({str(config)!r})  # imports tresnet_det, as tools/train.py does, and prints nothing
print([m for m in ('mmcv.ops', 'tresnet_det.compat.ops.extension') if m in sys.modules])
import mmdet.apis, mmcv
print(mmcv._ext.__spec__.name)
"""
    command = [sys.executable, '-W', 'ignore', '-c', code]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, 'PYTHONPATH': str(ROOT)}
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ['mmcv._ext', '[]', 'mmcv._ext']


def test_an_operator_that_is_missing_refuses_by_name_when_called():
    import torch
    from mmcv.ops import box_iou_rotated

    with pytest.raises(NotImplementedError, match=r"'box_iou_rotated'.*mmcv==2\.1\.0"):
        box_iou_rotated(torch.rand(2, 5), torch.rand(2, 5))
