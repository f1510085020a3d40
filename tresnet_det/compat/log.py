"""Where the package's log lines go: to MMEngine's logger where it is in use, else to Python's."""

import logging
import sys


def print_log(message: str, level: int = logging.INFO) -> None:
    """Log a line by the logger of the current run, or by the one called ``tresnet_det``."""
    if 'mmengine' not in sys.modules:
        logging.getLogger('tresnet_det').log(level, message)
        return
    from mmengine.logging import print_log

    print_log(message, logger='current', level=level)
