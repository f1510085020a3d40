"""Run tresnet_det/cli/export.py; the same as ``python -m tresnet_det export``."""

from tresnet_det.cli.ending import run_tool
from tresnet_det.cli.export import main

if __name__ == '__main__':
    run_tool(main)
