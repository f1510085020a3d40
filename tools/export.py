"""Run tresnet_det/cli/export.py; the same as ``python -m tresnet_det export``."""

from tresnet_det.cli.export import main
from tresnet_det.cli.run import run_tool

if __name__ == '__main__':
    run_tool(main)
