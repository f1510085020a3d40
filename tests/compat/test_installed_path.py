"""`_base_ = 'mmdet::...'` without pkg_resources."""

import sys

import mmengine.config.config
import mmengine.utils.package_utils
import numpy
import pytest
from mmengine.config import Config

from tresnet_det.compat import installed

HOLDERS = (mmengine.utils, mmengine.utils.package_utils, mmengine.config.config)


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


def test_a_package_that_is_missing_still_says_so(without_pkg_resources, tmp_path):
    config = tmp_path / 'child.py'
    config.write_text("_base_ = 'mmrotate::a/b.py'")
    installed.fix_package_lookup()
    with pytest.raises(ModuleNotFoundError, match='mmrotate'):
        Config.fromfile(config)
    with pytest.raises(ModuleNotFoundError, match='no_such_package'):
        installed.get_installed_path('no_such_package')


def test_a_distribution_is_found_by_its_own_name():
    assert installed.is_installed('mmcv-lite') == installed.is_installed('mmcv')
    folder = installed.get_installed_path('numpy')
    assert folder == numpy.__path__[0]
