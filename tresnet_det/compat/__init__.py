"""The one place that adapts the stack below: mmcv without a compiler, and safe checkpoints.

Importing this package changes nothing; :func:`prepare` does, once, for the whole process.
"""


def prepare() -> None:
    """Make stock MMDetection 3.3 run on the mmcv that is installed, and its checkpoints load.

    In this order: check which mmcv there is; where it has no compiled extension, offer one in
    Python as ``mmcv._ext`` (built when it is first imported); fix mmengine's look-up of packages
    where setuptools no longer has pkg_resources; allow-list what mmengine saves, and make
    mmengine load with ``weights_only=True``; let its inferencers find our loader of images, its
    configs those of this project; have its files written whole.
    Calling it again changes nothing.

    Raises:
        ImportError: there is no mmcv, there are two, or it is one that MMDetection refuses. One
            line that says what to install or remove.
    """
    from .. import files  # noqa: F401  (before OpenCV, which it tells its limit)
    from . import installed

    # First: without a fitting mmcv, everything below would fail with a message about itself.
    installed.check_mmcv()
    if not installed.has_compiled_ops():
        installed.offer_python_ops()

    from . import checkpoint_io, inferencers, whole_files

    installed.fix_package_lookup()
    checkpoint_io.allow_mmengine_types()
    checkpoint_io.guard_mmengine_loader()
    inferencers.fix_inferencers()
    whole_files.write_files_whole()
    installed.offer_own_configs()
