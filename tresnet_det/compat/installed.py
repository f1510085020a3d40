"""What is installed, and where: mmcv, the packages that configs name, our own configs and tools.

- mmcv comes as two distributions, ``mmcv`` (compiled operators in ``mmcv._ext``) and ``mmcv-lite``
  (none), which own the same import name. Without compiled operators, ``mmcv._ext`` is ours.
- ``_base_ = 'mmdet::...'`` in a config needs pkg_resources, which setuptools 82 removed; the import
  system knows the same two things.
- ``tresnet_det::NAME`` is a config of this project. A wheel has configs and tools inside the
  package; in a clone they are next to it. mmengine reads ``package::folder/name.py`` for a list of
  packages of its own, and only below a folder and as ``_base_``.

Only names and metadata are looked at: nothing of mmcv or mmengine is imported with this module.
"""

import functools
import importlib.abc
import importlib.machinery
import importlib.util
import os.path as osp
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import NoReturn

_EXT = 'mmcv._ext'
_INSTALL = (
    'install one: pip install "tresnet-det[lite]" (mmcv-lite==2.1.0, no compiler needed), '
    'or a compiled mmcv>=2.0.0rc4,<2.2.0'
)

# Everywhere mmengine 0.10 has is_installed and get_installed_path.
_HOLDERS = (
    'mmengine.utils',
    'mmengine.utils.package_utils',
    'mmengine.config.config',
    'mmengine.hub.hub',
)
PREFIX = 'tresnet_det::'
_PACKAGE = Path(__file__).resolve().parents[1]


def check_mmcv() -> None:
    """Check that exactly one mmcv is installed, of a version that MMDetection 3.3.0 accepts.

    Raises:
        ImportError: none is installed, both distributions are, or the version does not fit.
    """
    from packaging.version import Version  # comes with mmdet, not with torch

    # What mmdet 3.3.0 asserts when it is imported.
    oldest, too_new = Version('2.0.0rc4'), Version('2.2.0')
    versions = {name: _version_of(name) for name in ('mmcv', 'mmcv-lite')}
    found = {name: version for name, version in versions.items() if version is not None}
    if len(found) == 2:
        raise ImportError(
            f'both mmcv {found["mmcv"]} and mmcv-lite {found["mmcv-lite"]} are installed, and they '
            'own the same import name: pip uninstall mmcv mmcv-lite, then install the one you want'
        )
    if importlib.util.find_spec('mmcv') is None:
        raise ImportError(f'mmcv is not installed, and MMDetection needs it; {_INSTALL}')
    for name, version in found.items():
        if not oldest <= Version(version) < too_new:
            raise ImportError(
                f'{name} {version} is refused by MMDetection 3.3.0, which needs >=2.0.0rc4,<2.2.0: '
                f'pip install {name}==2.1.0'
            )


def has_compiled_ops() -> bool:
    """Whether the installed mmcv has a compiled ``_ext``; looks for the file, imports nothing."""
    package = importlib.util.find_spec('mmcv')
    folders = package.submodule_search_locations if package else None
    return importlib.machinery.PathFinder.find_spec(_EXT, folders) is not None


def offer_python_ops() -> None:
    """Let ``import mmcv._ext`` find the operators of :mod:`tresnet_det.compat.ops.extension`.

    The finder comes last, so that a compiled extension is always preferred.
    """
    if not any(isinstance(finder, _PythonOps) for finder in sys.meta_path):
        sys.meta_path.append(_PythonOps())


class _PythonOps(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds ``mmcv._ext`` and fills it when it is first imported, torchvision only then."""

    def find_spec(
        self, fullname: str, path: object = None, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname == _EXT:
            return importlib.machinery.ModuleSpec(fullname, self, origin=__name__)
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Put the operators, and a named refusal for all others, into ``module``."""
        _check_torchvision()
        from .ops import extension

        module.__doc__ = extension.__doc__
        module.__dict__.update(extension.OPERATORS, __getattr__=missing_operator)


def missing_operator(name: str) -> Callable[..., NoReturn]:
    """Return a function that refuses by name; the ``__getattr__`` of ``mmcv._ext``.

    mmcv asks for every operator when ``mmcv.ops`` is imported, so the refusal must wait for the
    call.

    Raises:
        AttributeError: for private names, which are never operators.
    """
    if name.startswith('_'):
        raise AttributeError(f"module 'mmcv._ext' has no attribute {name!r}")

    def refuse(*args: object, **kwargs: object) -> NoReturn:
        raise NotImplementedError(
            f'the mmcv operator {name!r} is not provided without a compiled mmcv. To get one: '
            'pip uninstall mmcv-lite, then pip install --no-build-isolation "mmcv==2.1.0" with '
            '"setuptools<81" and a C++ (and CUDA) compiler that fits your torch'
        )

    refuse.__name__ = refuse.__qualname__ = name
    return refuse


def _check_torchvision() -> None:
    """Say which pair does not fit; torchvision itself says "operator nms does not exist"."""
    try:
        import torchvision  # noqa: F401
    except (RuntimeError, OSError) as error:
        raise ImportError(
            f'torchvision {_version_of("torchvision")} does not fit torch {_version_of("torch")} '
            f'({error}); install the two releases that belong together, from the same index'
        ) from error


def _version_of(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


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


def own_folder(name: str) -> Path:
    """Return where the configs or the tools are.

    Args:
        name: ``'configs'`` or ``'tools'``.
    """
    inside = _PACKAGE / name
    return inside if inside.is_dir() else _PACKAGE.parent / name


def tool_command(name: str) -> str:
    """Return how a tool is run here, for what a user is told to do next: ``python ...``."""
    return f'python -m tresnet_det {name}' if _in_wheel() else f'python tools/{name}.py'


def config_name(name: str) -> str:
    """Return how one of this project's configs is named here, likewise."""
    return f'{PREFIX}{name}' if _in_wheel() else f'configs/{name}'


def _in_wheel() -> bool:
    return own_folder('tools').parent == _PACKAGE


def locate_config(name: str | Path) -> str | Path:
    """Return the file that ``tresnet_det::NAME`` means; any other name as it is."""
    if not str(name).startswith(PREFIX):
        return name
    return str(own_folder('configs') / str(name).removeprefix(PREFIX))


def offer_own_configs() -> None:
    """Let mmengine's ``Config`` read ``tresnet_det::NAME``, as a file and as ``_base_``."""
    from mmengine.config import Config

    if hasattr(Config.fromfile, 'knows_own_configs'):
        return
    read_file, find_base = Config.fromfile, Config._get_cfg_path

    @functools.wraps(read_file)
    def fromfile(filename: str | Path, *args: object, **kwargs: object) -> Config:
        return read_file(locate_config(filename), *args, **kwargs)

    @functools.wraps(find_base)
    def get_cfg_path(cfg_path: str, filename: str) -> tuple[str, str | None]:
        if cfg_path.startswith(PREFIX):
            return str(locate_config(cfg_path)), None  # no scope: they name their own
        return find_base(cfg_path, filename)

    vars(fromfile).update(knows_own_configs=True)
    Config.fromfile = staticmethod(fromfile)
    Config._get_cfg_path = staticmethod(get_cfg_path)
