"""This project's own configs and tools, wherever it is installed: ``tresnet_det::NAME``.

A wheel has them inside the package, in ``.mim/configs`` and ``.mim/tools`` as MMDetection's wheel
does; in a clone they are next to it. mmengine reads ``package::folder/name.py`` for a list of
packages of its own, and only below a folder and as ``_base_``.
"""

import functools
from pathlib import Path

PREFIX = 'tresnet_det::'
_PACKAGE = Path(__file__).resolve().parents[1]


def own_folder(name: str) -> Path:
    """Return where the configs or the tools are.

    Args:
        name: ``'configs'`` or ``'tools'``.
    """
    inside = _PACKAGE / '.mim' / name
    return inside if inside.is_dir() else _PACKAGE.parent / name


def tool_command(name: str) -> str:
    """Return how a tool is run here, for what a user is told to do next: ``python ...``."""
    return f'python -m tresnet_det {name}' if _in_wheel() else f'python tools/{name}.py'


def config_name(name: str) -> str:
    """Return how one of this project's configs is named here, likewise."""
    return f'{PREFIX}{name}' if _in_wheel() else f'configs/{name}'


def _in_wheel() -> bool:
    return own_folder('tools').parent.name == '.mim'


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
