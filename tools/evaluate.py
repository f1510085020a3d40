"""Run tresnet_det/cli/evaluate.py, without PyTorch; or ``python -m tresnet_det evaluate``."""

import sys
from importlib import util

# The package without its ``__init__``, which registers models, and imports PyTorch for them.
if 'tresnet_det' not in sys.modules:
    spec = util.find_spec('tresnet_det')
    if spec is None:
        sys.exit('error: tresnet_det is not installed: pip install --no-deps . in its clone')
    sys.modules['tresnet_det'] = util.module_from_spec(spec)

from tresnet_det.compat.interrupt import end_quietly  # noqa: E402

end_quietly()
from tresnet_det.cli.ending import run_tool  # noqa: E402
from tresnet_det.cli.evaluate import main  # noqa: E402

if __name__ == '__main__':
    run_tool(main)
