"""Run tresnet_det/cli/embed.py; the same as ``python -m tresnet_det embed``."""

from tresnet_det.cli.embed import main
from tresnet_det.cli.ending import run_tool

if __name__ == '__main__':
    run_tool(main)
