"""Run tresnet_det/cli/check_data.py; the same as ``python -m tresnet_det check_data``."""

from tresnet_det.cli.check_data import main
from tresnet_det.cli.ending import run_tool

if __name__ == '__main__':
    run_tool(main)
