"""Run tresnet_det/cli/benchmark.py; the same as ``python -m tresnet_det benchmark``."""

from tresnet_det.cli.benchmark import main
from tresnet_det.cli.ending import run_tool

if __name__ == '__main__':
    run_tool(main)
