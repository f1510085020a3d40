"""Run tresnet_det/cli/voc_to_coco.py; the same as ``python -m tresnet_det voc_to_coco``."""

from tresnet_det.cli.ending import run_tool
from tresnet_det.cli.voc_to_coco import main

if __name__ == '__main__':
    run_tool(main)
