"""Which mmcv is installed, and the Python stand-in for its compiled extension.

mmcv comes as two distributions, ``mmcv`` (compiled operators in ``mmcv._ext``) and ``mmcv-lite``
(none), which own the same import name. Only distribution metadata and file names are looked at
here: nothing of mmcv is imported.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable
from importlib import metadata
from types import ModuleType
from typing import NoReturn

from packaging.version import Version

_EXT = 'mmcv._ext'
# What mmdet 3.3.0 asserts when it is imported.
_OLDEST, _TOO_NEW = Version('2.0.0rc4'), Version('2.2.0')
_INSTALL = (
    'install one: pip install "tresnet_det[lite]" (mmcv-lite==2.1.0, no compiler needed), '
    'or a compiled mmcv>=2.0.0rc4,<2.2.0'
)


def check_mmcv() -> None:
    """Check that exactly one mmcv is installed, of a version that MMDetection 3.3.0 accepts.

    Raises:
        ImportError: none is installed, both distributions are, or the version does not fit.
    """
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
        if not _OLDEST <= Version(version) < _TOO_NEW:
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
    if not any(isinstance(finder, _PythonOpsFinder) for finder in sys.meta_path):
        sys.meta_path.append(_PythonOpsFinder())


class _PythonOpsFinder(importlib.abc.MetaPathFinder):
    """Finds ``mmcv._ext`` and nothing else."""

    def find_spec(
        self, fullname: str, path: object = None, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return a spec for ``mmcv._ext``; see :class:`importlib.abc.MetaPathFinder`."""
        if fullname != _EXT:
            return None
        return importlib.machinery.ModuleSpec(fullname, _PythonOpsLoader(), origin=__name__)


class _PythonOpsLoader(importlib.abc.Loader):
    """Fills ``mmcv._ext`` when it is first imported, and imports torchvision only then."""

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        """Return None: the import system makes an ordinary module."""

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
