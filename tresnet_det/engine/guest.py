"""A run inside of somebody else's process, as a notebook's: what it changes there is put back."""

import logging
import multiprocessing
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import mmengine.device
import torch
from mmengine.utils import ManagerMixin
from mmengine.visualization import Visualizer


@contextmanager
def as_guest() -> Iterator[None]:
    """Start without what mmengine keeps of runs for the whole process, and leave nothing of it.

    That are its scopes, loggers, message hubs and visualizers, found by names that two runs of a
    second share. The caller's own come back at the end; so do environment, threads, the device, the
    way in which processes start, cuDNN's choice of algorithms and the filters of warnings.
    """
    environment, threads = dict(os.environ), cv2.getNumThreads()
    benchmark, device = torch.backends.cudnn.benchmark, mmengine.device.utils.DEVICE
    gpu = torch.cuda.current_device() if torch.cuda.is_initialized() else 0
    method = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method(None, force=True)  # mmengine warns of any other than its own
    before = [(kept, dict(kept)) for kept in _kept_of_runs()]
    for kept, _ in before:
        kept.clear()
    try:
        with warnings.catch_warnings():
            yield
    finally:
        forget_runs()
        for kept, content in before:
            kept.update(content)
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)
        cv2.setNumThreads(threads)
        torch.backends.cudnn.benchmark = benchmark
        mmengine.device.utils.DEVICE = device  # settings.use_device changed both
        if torch.cuda.is_initialized():
            torch.cuda.set_device(gpu)
        multiprocessing.set_start_method(method, force=True)


def forget_runs() -> None:
    """Close and drop what mmengine keeps of runs."""
    for kept in _kept_of_runs():
        for each in kept.values():
            if isinstance(each, Visualizer):
                each.close()
            for handler in each.handlers if isinstance(each, logging.Logger) else ():
                handler.close()
        kept.clear()


def _kept_of_runs() -> list[dict[str, Any]]:
    """Return where each kind of what is kept, by its name."""
    kinds = [ManagerMixin]
    for kind in kinds:  # it grows
        kinds += kind.__subclasses__()
    return [kind._instance_dict for kind in kinds]
