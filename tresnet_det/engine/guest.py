"""A run inside of somebody else's process, as a notebook's: what it changes there is put back."""

import logging
import multiprocessing
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

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
    # By class: mmengine puts another dict in the place of one when it changes scopes.
    before = {kind: dict(kind._instance_dict) for kind in _kinds_of_kept()}
    for kind in before:
        kind._instance_dict.clear()
    try:
        with warnings.catch_warnings():
            yield
    finally:
        forget_runs()
        for kind, content in before.items():
            kind._instance_dict.update(content)
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
    for kind in _kinds_of_kept():
        for each in kind._instance_dict.values():
            if isinstance(each, Visualizer):
                each.close()
            for handler in each.handlers if isinstance(each, logging.Logger) else ():
                handler.close()
        kind._instance_dict.clear()


def _kinds_of_kept() -> list[type[ManagerMixin]]:
    """Return the classes of what is kept, each with its own by their names."""
    kinds = [ManagerMixin]
    for kind in kinds:  # it grows
        kinds += kind.__subclasses__()
    return kinds
