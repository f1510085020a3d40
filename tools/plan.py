"""Run tresnet_det/cli/plan.py; the same as ``python -m tresnet_det plan``."""

from tresnet_det.cli.plan import main
from tresnet_det.cli.run import run_tool

if __name__ == '__main__':
    run_tool(main)
