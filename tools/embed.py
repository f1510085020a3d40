"""Run tresnet_det/cli/embed.py; the same as ``python -m tresnet_det embed``."""

from tresnet_det.cli.command_line import run_tool
from tresnet_det.cli.embed import main

if __name__ == '__main__':
    run_tool(main)
