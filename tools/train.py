"""Run tresnet_det/cli/train.py; the same as ``python -m tresnet_det train``."""

from tresnet_det.cli.ending import run_tool
from tresnet_det.cli.train import main

if __name__ == '__main__':
    run_tool(main)
