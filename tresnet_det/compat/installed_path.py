"""mmengine's look-up of installed packages, where setuptools no longer has pkg_resources.

``_base_ = 'mmdet::...'`` in a config goes through ``mmengine.utils.is_installed`` and
``get_installed_path``, which import pkg_resources; setuptools 82 removed it. The import system
knows the same two things.
"""

import importlib.util
import os.path as osp
import sys
from importlib import metadata

# Everywhere mmengine 0.10 keeps these two names.
_HOLDERS = (
    'mmengine.utils',
    'mmengine.utils.package_utils',
    'mmengine.config.config',
    'mmengine.hub.hub',
)


def fix_package_lookup() -> None:
    """Give mmengine look-ups that need no pkg_resources; where it has one, touch nothing."""
    if importlib.util.find_spec('pkg_resources') is not None:
        return
    import mmengine.config  # noqa: F401  (so that the names to replace are there)

    for function in (is_installed, get_installed_path):
        for holder in map(sys.modules.get, _HOLDERS):
            if hasattr(holder, function.__name__):
                setattr(holder, function.__name__, function)


def is_installed(package: str) -> bool:
    """Whether ``package``, an import name or a distribution's name, is installed."""
    return importlib.util.find_spec(_import_name(package)) is not None


def get_installed_path(package: str) -> str:
    """Return the folder of an installed package.

    Args:
        package: its import name or its distribution's name, such as ``mmdet``.

    Raises:
        ModuleNotFoundError: it is not installed.
        RuntimeError: it is a namespace package, which has no single folder.
    """
    spec = importlib.util.find_spec(_import_name(package))
    if spec is None:
        raise ModuleNotFoundError(f'{package} is not installed: pip install {package}')
    if spec.origin is None:
        raise RuntimeError(f'{package} is a namespace package, which has no single folder')
    return osp.dirname(spec.origin)


def _import_name(package: str) -> str:
    """Return the import name for a distribution's name; an import name stays as it is."""
    if package in sys.modules or importlib.util.find_spec(package) is not None:
        return package
    try:
        top_level = metadata.distribution(package).read_text('top_level.txt')
    except metadata.PackageNotFoundError:
        return package
    return (top_level or package).split()[0]
