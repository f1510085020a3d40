"""mmengine's inferencers: a config of the user's own, and a pipeline whose loader is ours.

Given weights alone, an inferencer executes the config's text that a checkpoint carries
(``meta['cfg']``, or ``cfg`` in its message hub). Reading that text as plain values would not do:
a config's ``type='os.system'`` is imported and called by mmengine's registry. So it is refused.

MMDetection's ``DetInferencer`` looks in the test pipeline for a transform called
``LoadImageFromFile`` and puts its own in that place. ``LoadImage`` is one by inheritance, but not
by name, and takes an option more.
"""

import functools
from collections.abc import MutableMapping
from typing import Any

from ..errors import InputError

_OURS = ('LoadImage', 'mmdet.LoadImage')


def fix_inferencers() -> None:
    """Let inferencers find the loader, and run no config out of weights; safe to call again."""
    from mmengine.infer import BaseInferencer

    original = BaseInferencer._init_model
    if hasattr(original, '__wrapped__'):
        return

    @functools.wraps(original)
    def init_model(self: Any, cfg: Any, weights: Any, *args: Any, **kwargs: Any) -> Any:
        if not cfg:
            kind = type(self).__name__
            raise InputError(
                f'{weights}: without a config, the text in these weights would be executed: give '
                f"both, {kind}(CONFIG, WEIGHTS); the text is meta['cfg'], to look at and to save"
            )
        name_loader_as_mmcv_does(cfg)
        return original(self, cfg, weights, *args, **kwargs)

    BaseInferencer._init_model = init_model


def name_loader_as_mmcv_does(cfg: MutableMapping[str, Any]) -> None:
    """Call the loader of the test pipeline ``LoadImageFromFile``, without the option of ours."""
    dataset = (cfg.get('test_dataloader') or {}).get('dataset') or {}
    for transform in dataset.get('pipeline') or ():
        if transform.get('type') in _OURS:
            transform['type'] = 'LoadImageFromFile'
            transform.pop('on_error', None)
