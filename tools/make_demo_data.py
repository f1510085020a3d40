"""Run tresnet_det/cli/make_demo_data.py; the same as ``python -m tresnet_det make_demo_data``."""

from tresnet_det.cli.make_demo_data import main
from tresnet_det.cli.run import run_tool

if __name__ == '__main__':
    run_tool(main)
