"""Data on disk: one reader for each layout of users' files, and what is wrong with them.

A reader turns a `Source` into a `Split` and adds what is wrong to `Findings`: collected for
``check_data.py``, and the first error raised for a training (``Findings(strict=True)``), so both
say the same. :mod:`~tresnet_det.readers.data` is the way in, :mod:`~tresnet_det.readers.report`
that of the check, which looks at all pixels, too. A new layout is a module with a ``read_*``
function, a line in the table of ``data``, and a way to recognise it in ``layouts``. From below:
``findings``, ``files``, ``split``, ``locate``, the readers, ``kinds``, ``layouts``, ``data``,
``prepare`` (for a training), ``config`` and ``report``.
"""
