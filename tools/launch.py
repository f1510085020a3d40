"""Run tresnet_det/cli/launch.py; the same as ``python -m tresnet_det launch``."""

from tresnet_det.cli.ending import run_tool
from tresnet_det.cli.launch import main

if __name__ == '__main__':
    run_tool(main)
