"""Run tresnet_det/cli/publish_weights.py; the same as ``python -m tresnet_det publish_weights``."""

from tresnet_det.cli.ending import run_tool
from tresnet_det.cli.publish_weights import main

if __name__ == '__main__':
    run_tool(main)
