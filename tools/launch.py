"""Run tresnet_det/cli/launch.py; the same as ``python -m tresnet_det launch``."""

from tresnet_det.cli.launch import main
from tresnet_det.cli.run import run_tool

if __name__ == '__main__':
    run_tool(main)
