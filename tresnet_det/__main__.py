"""Run a tool of this project from any folder: python -m tresnet_det train CONFIG ..."""

import runpy
import sys

from .compat.installed import own_folder


def main() -> None:
    """Run the tool that the first argument names, with the arguments after it."""
    tools = {path.stem: str(path) for path in own_folder('tools').glob('*.py')}
    name = sys.argv[1] if len(sys.argv) > 1 else '--help'
    usage = f'usage: python -m tresnet_det TOOL ...\ntools: {", ".join(sorted(tools))}'
    if name in ('-h', '--help'):
        print(usage)
        return
    if name not in tools:
        print(f'error: no tool {name!r}\n{usage}', file=sys.stderr)
        sys.exit(2)
    sys.argv[:2] = [tools[name]]
    runpy.run_path(tools[name], run_name='__main__')


if __name__ == '__main__':
    main()
