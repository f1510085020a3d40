"""Run tresnet_det/cli/evaluate.py, without PyTorch; or ``python -m tresnet_det evaluate``."""

import signal
import sys
from importlib import util

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # as the package's would
    signal.signal(signal.SIGINT, signal.SIG_DFL)
# The package without its ``__init__``, which registers models, and imports PyTorch for them.
if 'tresnet_det' not in sys.modules:
    sys.modules['tresnet_det'] = util.module_from_spec(util.find_spec('tresnet_det'))

from tresnet_det.cli.ending import run_tool  # noqa: E402
from tresnet_det.cli.evaluate import main  # noqa: E402

if __name__ == '__main__':
    run_tool(main)
