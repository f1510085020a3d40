"""Run tresnet_det/cli/convert_weights.py; the same as ``python -m tresnet_det convert_weights``."""

from tresnet_det.cli.convert_weights import main
from tresnet_det.cli.ending import run_tool

if __name__ == '__main__':
    run_tool(main)
