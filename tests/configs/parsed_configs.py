"""The configs, each parsed once in a process: MMEngine's parser is slow."""

import copy
import functools
from pathlib import Path

from mmengine.config import Config

from tresnet_det.engine import config as edit

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
_read = functools.cache(edit.load_config)


def load(name: str) -> Config:
    """A copy, to be changed, of the config of a name below configs/."""
    return copy.deepcopy(_read(CONFIGS / name))
