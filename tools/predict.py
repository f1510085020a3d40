"""Run tresnet_det/cli/predict.py; the same as ``python -m tresnet_det predict``."""

from tresnet_det.cli.predict import main
from tresnet_det.cli.run import run_tool

if __name__ == '__main__':
    run_tool(main)
