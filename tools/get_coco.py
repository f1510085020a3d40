"""Run tresnet_det/cli/get_coco.py; the same as ``python -m tresnet_det get_coco``."""

from tresnet_det.cli.ending import run_tool
from tresnet_det.cli.get_coco import main

if __name__ == '__main__':
    run_tool(main)
