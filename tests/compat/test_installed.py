"""Which mmcv is accepted, bases without pkg_resources, and this project's configs and tools."""

import os
import subprocess
import sys
from importlib import machinery, metadata

import mmengine.config.config
import mmengine.utils.package_utils
import pytest
from mmengine.config import Config

import tresnet_det
from tresnet_det import __main__
from tresnet_det.compat import installed
from tresnet_det.engine.config import load_config
from tresnet_det.errors import MissingFileError

HOLDERS = (mmengine.utils, mmengine.utils.package_utils, mmengine.config.config)
TOO_OLD_OR_NEW = r'mmcv-lite .*pip install mmcv-lite==2\.1\.0'


def pretend_installed(monkeypatch, **versions: str) -> None:
    """Pretend that exactly these mmcv distributions are installed."""

    def version(name: str) -> str:
        key = name.replace('-', '_')
        if key not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[key]

    monkeypatch.setattr(installed.metadata, 'version', version)


def test_no_mmcv_names_what_to_install(monkeypatch):
    pretend_installed(monkeypatch)
    monkeypatch.setattr(installed.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(ImportError, match=r'tresnet-det\[lite\].*mmcv-lite==2\.1\.0') as caught:
        installed.check_mmcv()
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    ('versions', 'message'),
    [
        (dict(mmcv='2.1.0', mmcv_lite='2.0.1'), 'mmcv 2.1.0 and mmcv-lite 2.0.1.*pip uninstall'),
        (dict(mmcv_lite='2.2.0'), TOO_OLD_OR_NEW),
        (dict(mmcv_lite='1.7.2'), TOO_OLD_OR_NEW),
        (dict(mmcv_lite='2.0.0rc3'), TOO_OLD_OR_NEW),
    ],
)
def test_both_distributions_and_versions_that_mmdet_refuses(monkeypatch, versions, message):
    pretend_installed(monkeypatch, **versions)
    with pytest.raises(ImportError, match=message):
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


def test_mmdet_fails_before_the_package_and_imports_after_a_config_that_names_it(
    tmp_path, project_root
):
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
        command, capture_output=True, text=True, env={**os.environ, 'PYTHONPATH': str(project_root)}
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ['mmcv._ext', '[]', 'mmcv._ext']


def test_an_operator_that_is_missing_refuses_by_name_when_called():
    import torch
    from mmcv.ops import box_iou_rotated

    with pytest.raises(NotImplementedError, match=r"'box_iou_rotated'.*mmcv==2\.1\.0"):
        box_iou_rotated(torch.rand(2, 5), torch.rand(2, 5))


@pytest.fixture
def without_pkg_resources(monkeypatch):
    """Hide pkg_resources, as setuptools 82 does, and restore mmengine afterwards."""
    for holder in HOLDERS:
        for name in ('is_installed', 'get_installed_path'):
            monkeypatch.setattr(holder, name, getattr(holder, name))
    monkeypatch.setitem(sys.modules, 'pkg_resources', None)


def test_a_base_config_of_mmdet_is_found_without_pkg_resources(without_pkg_resources, tmp_path):
    config = tmp_path / 'child.py'
    config.write_text("_base_ = 'mmdet::_base_/schedules/schedule_1x.py'")
    with pytest.raises(ImportError, match='pkg_resources'):
        Config.fromfile(config)
    installed.fix_package_lookup()
    assert Config.fromfile(config).train_cfg.max_epochs == 12


def test_a_package_that_is_missing_is_named(without_pkg_resources, tmp_path):
    config = tmp_path / 'child.py'
    config.write_text("_base_ = 'mmrotate::a/b.py'")
    installed.fix_package_lookup()
    with pytest.raises(ModuleNotFoundError, match='mmrotate'):
        Config.fromfile(config)
    with pytest.raises(ModuleNotFoundError, match='no_such_package'):
        installed.get_installed_path('no_such_package')


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """A package folder as a wheel has it, with one config and one tool."""
    package = tmp_path / 'tresnet_det'
    for name, content in (
        ('configs/own.py', "model = dict(type='Mine')\n"),
        ('tools/say.py', 'import sys\nprint(__name__, sys.argv[1:])\n'),
    ):
        file = package / name
        file.parent.mkdir(parents=True)
        file.write_text(content)
    monkeypatch.setattr(installed, '_PACKAGE', package)
    return package


def test_a_config_is_read_by_its_name_from_any_folder(project_root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = Config.fromfile('tresnet_det::fcos_tresnet_m.py')
    assert cfg.filename == str(project_root / 'configs/fcos_tresnet_m.py')
    assert load_config('tresnet_det::fcos_tresnet_m.py').model == cfg.model


def test_a_base_may_be_named_so_beside_files_and_mmdetections_own(tmp_path):
    (tmp_path / 'local.py').write_text("work_dir = 'mine'\n")
    (tmp_path / 'child.py').write_text(
        "_base_ = ['tresnet_det::fcos_tresnet_m.py', './local.py']\n"
        'model = dict(bbox_head=dict(num_classes=3))\n'
    )
    (tmp_path / 'other.py').write_text("_base_ = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'\n")
    cfg = Config.fromfile(tmp_path / 'child.py')
    own = Config.fromfile('tresnet_det::fcos_tresnet_m.py')
    assert (cfg.model.bbox_head.num_classes, cfg.work_dir) == (3, 'mine')
    assert cfg.model.backbone == own.model.backbone
    assert Config.fromfile(tmp_path / 'other.py').model.type == 'RetinaNet'


def test_a_name_that_is_none_is_a_missing_file(project_root):
    with pytest.raises(MissingFileError, match=str(project_root / 'configs/none.py')):
        load_config('tresnet_det::none.py')


def test_in_a_wheel_configs_and_tools_are_those_inside_the_package(wheel, monkeypatch, capsys):
    assert load_config('tresnet_det::own.py').model.type == 'Mine'
    assert installed.tool_command('say') == 'python -m tresnet_det say'
    assert installed.config_name('a/own.py') == 'tresnet_det::a/own.py'
    monkeypatch.setattr(sys, 'argv', ['tresnet_det', 'say', '--loud', 'x'])
    __main__.main()
    assert capsys.readouterr().out == "__main__ ['--loud', 'x']\n"


def test_in_a_clone_the_tools_are_called_as_the_readme_calls_them():
    assert installed.tool_command('train') == 'python tools/train.py'
    assert installed.config_name('a/own.py') == 'configs/a/own.py'


@pytest.mark.parametrize(('arguments', 'status'), [(['--help'], 0), ([], 0), (['fly'], 2)])
def test_the_tools_are_listed(arguments, status, wheel, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['tresnet_det', *arguments])
    if status:
        with pytest.raises(SystemExit) as ended:
            __main__.main()
        assert ended.value.code == status
    else:
        __main__.main()
    said = capsys.readouterr()
    if status:
        assert said.err == "error: no tool 'fly': use one of say\n"
    else:
        assert said.out.startswith('usage: tresnet-det TOOL ...')
        assert said.out.endswith('\ntools:\n  say\n')


def test_each_tool_is_listed_in_a_line_and_the_version_is_told(project_root, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['tresnet_det'])
    __main__.main()
    lines = capsys.readouterr().out.split('tools:\n')[1].splitlines()
    assert [line.split()[0] for line in lines] == sorted(
        path.stem for path in (project_root / 'tools').glob('*.py')
    )
    assert all(20 < len(line) <= 120 and 'python' not in line for line in lines)
    monkeypatch.setattr(sys, 'argv', ['tresnet_det', '--version'])
    __main__.main()
    assert capsys.readouterr().out == f'tresnet-det {tresnet_det.__version__}\n'
