"""Run a tool of this project from any folder: tresnet-det TOOL ..., or python -m tresnet_det."""

import ast
import runpy
import sys
from pathlib import Path

from . import __version__
from .compat.installed import own_folder

USAGE = """usage: tresnet-det TOOL ...       (or python -m tresnet_det TOOL ...)
       tresnet-det TOOL --help
       tresnet-det --version

tools:
"""


def main() -> None:
    """Run the tool that the first argument names, with the arguments after it."""
    tools = {path.stem: str(path) for path in sorted(own_folder('tools').glob('*.py'))}
    name = sys.argv[1] if len(sys.argv) > 1 else '--help'
    if name == '--version':
        print(f'tresnet-det {__version__}')
    elif name in ('-h', '--help'):
        print(USAGE + '\n'.join(f'  {tool:16} {_describe(tool)}'.rstrip() for tool in tools))
    elif name not in tools:
        print(f'error: no tool {name!r}: use one of {", ".join(tools)}', file=sys.stderr)
        sys.exit(2)
    else:
        sys.argv[:2] = [tools[name]]
        runpy.run_path(tools[name], run_name='__main__')


def _describe(tool: str) -> str:
    """Return what a tool is for, as its module begins, without importing it."""
    file = Path(__file__).with_name('cli') / f'{tool}.py'
    text = ast.get_docstring(ast.parse(file.read_text('utf-8'))) if file.is_file() else None
    return (text or '').split('\n')[0].split(': python tools/')[0].rstrip('.')


if __name__ == '__main__':
    main()
