"""Run tresnet_det/cli/plan.py; the same as ``python -m tresnet_det plan``."""

from tresnet_det.cli.ending import run_tool
from tresnet_det.cli.plan import main

if __name__ == '__main__':
    run_tool(main)
