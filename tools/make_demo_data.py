"""Run tresnet_det/cli/make_demo_data.py; the same as ``python -m tresnet_det make_demo_data``."""

from tresnet_det.cli.ending import run_tool
from tresnet_det.cli.make_demo_data import main

if __name__ == '__main__':
    run_tool(main)
