"""Run tresnet_det/cli/predict.py; the same as ``python -m tresnet_det predict``."""

from tresnet_det.cli.ending import run_tool
from tresnet_det.cli.predict import main

if __name__ == '__main__':
    run_tool(main)
