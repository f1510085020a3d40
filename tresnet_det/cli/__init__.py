"""The command line tools, one module each: arguments, messages, what is printed last.

``python tools/NAME.py`` and ``python -m tresnet_det NAME`` run ``main`` of ``cli/NAME.py``.
"""

import sys

from ..compat.detection import has_detection, needs_detection

# tools/evaluate.py needs none, and imports this without the package's __init__.
if hasattr(sys.modules['tresnet_det'], '__version__') and not has_detection():
    print(f'error: {needs_detection("this tool")}', file=sys.stderr)
    sys.exit(2)
