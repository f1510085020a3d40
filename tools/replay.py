"""Run tresnet_det/cli/replay.py; the same as ``python -m tresnet_det replay``."""

from tresnet_det.cli.replay import main
from tresnet_det.cli.run import run_tool

if __name__ == '__main__':
    run_tool(main)
