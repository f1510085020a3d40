"""Run tresnet_det/cli/test.py; the same as ``python -m tresnet_det test``."""

from tresnet_det.cli.ending import run_tool
from tresnet_det.cli.test import main

if __name__ == '__main__':
    run_tool(main)
