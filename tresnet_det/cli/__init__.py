"""The command line tools, one module each: arguments, messages, what is printed last.

``python tools/NAME.py`` and ``python -m tresnet_det NAME`` run ``main`` of ``cli/NAME.py``.
"""
