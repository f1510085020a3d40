"""``tresnet_det::NAME`` for this project's configs, and its tools by ``python -m tresnet_det``."""

import sys

import pytest
from mmengine.config import Config

from tresnet_det import __main__
from tresnet_det.compat import installed
from tresnet_det.engine.config import load_config
from tresnet_det.errors import MissingFileError


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """A package folder as a wheel has it, with one config and one tool."""
    package = tmp_path / 'tresnet_det'
    for name, content in (
        ('configs/own.py', "model = dict(type='Mine')\n"),
        ('tools/say.py', 'import sys\nprint(__name__, sys.argv[1:])\n'),
    ):
        file = package / '.mim' / name
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
    assert 'usage: python -m tresnet_det TOOL ...\ntools: say\n' in (
        said.err if status else said.out
    )
    assert ("error: no tool 'fly'" in said.err) == bool(status)
