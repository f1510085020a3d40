"""Run tresnet_det/cli/get_coco.py; the same as ``python -m tresnet_det get_coco``."""

from tresnet_det.cli.get_coco import main
from tresnet_det.cli.run import run_tool

if __name__ == '__main__':
    run_tool(main)
