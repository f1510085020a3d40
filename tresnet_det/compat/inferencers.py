"""mmengine's inferencers on a pipeline whose loader is ours.

MMDetection's ``DetInferencer`` looks in the test pipeline for a transform called
``LoadImageFromFile`` and puts its own in that place. ``LoadImage`` is one by inheritance, but not
by name, and takes an option more.
"""

import functools
from collections.abc import MutableMapping
from typing import Any

_OURS = ('LoadImage', 'mmdet.LoadImage')


def mend_inferencers() -> None:
    """Let inferencers find the loader; calling it again changes nothing."""
    from mmengine.infer import BaseInferencer

    unmended = BaseInferencer._init_model
    if hasattr(unmended, '__wrapped__'):
        return

    @functools.wraps(unmended)
    def init_model(self: Any, cfg: Any, *args: Any, **kwargs: Any) -> Any:
        model = unmended(self, cfg, *args, **kwargs)
        # Afterwards: where there are weights alone, the config comes out of them.
        name_loader_as_mmcv_does(cfg)
        return model

    BaseInferencer._init_model = init_model


def name_loader_as_mmcv_does(cfg: MutableMapping[str, Any]) -> None:
    """Call the loader of the test pipeline ``LoadImageFromFile``, without the option of ours."""
    dataset = (cfg.get('test_dataloader') or {}).get('dataset') or {}
    for transform in dataset.get('pipeline') or ():
        if transform.get('type') in _OURS:
            transform['type'] = 'LoadImageFromFile'
            transform.pop('on_error', None)
