"""A config's test pipeline as the list of steps that ``onnx_runner.py`` runs without PyTorch."""

from collections.abc import Mapping, Sequence

from ..errors import InputError

# They do nothing to an image that is already read.
_LOADING = ('LoadImage', 'LoadImageFromFile')
_NO_CHANGE = ('LoadAnnotations', 'PackDetInputs')


class UnknownStepError(Exception):
    """A transform that ``onnx_runner.py`` does not have."""


def set_size(pipeline: Sequence[dict], height: int, width: int) -> None:
    """Let a test pipeline make images of another size.

    A detector's are fitted into ``height`` and ``width``, whichever side is the long one. A
    classifier's crop takes the size, and what it is cut from changes in proportion.

    Args:
        pipeline: Of the test dataset; its ``Resize`` and ``CenterCrop`` are changed.
        height: In pixels.
        width: In pixels.

    Raises:
        InputError: If it has nothing that sets the size.
    """
    resizes = [step for step in pipeline if step['type'] == 'Resize']
    crops = [step for step in pipeline if step['type'] == 'CenterCrop']
    if len(resizes) != 1 or len(crops) > 1:
        raise InputError('--size: the test pipeline has no single Resize; set it in the config')
    resize = resizes[0]
    if 'size' not in resize:  # MMDetection's
        resize.pop('scale_factor', None)
        resize['scale'] = (width, height)
    elif not crops:
        resize['size'] = (height, width)
    else:
        old_height, old_width = _pair(crops[0]['size'])
        factor = max(height / old_height, width / old_width)
        size = resize['size']
        is_pair = isinstance(size, (list, tuple)) and len(size) == 2
        resize['size'] = [round(s * factor) for s in size] if is_pair else round(size * factor)
        crops[0]['size'] = (height, width)


def read_steps(pipeline: Sequence[Mapping], task: str) -> list[dict]:
    """Return the steps between reading an image and the network.

    Args:
        pipeline: Of the test dataset.
        task: ``'detection'`` for MMDetection's transforms on OpenCV's images; others for
            torchvision's.

    Raises:
        UnknownStepError: If a transform has no such step.
    """
    translate = _detection_step if task == 'detection' else _classification_step
    return [step for entry in pipeline if (step := translate(dict(entry))) is not None]


def _detection_step(entry: dict) -> dict | None:
    kind = entry.pop('type')
    if kind in _NO_CHANGE:
        return None
    if kind in _LOADING:
        _allow(entry, kind, 'on_error', 'ignore_empty', backend_args=None, imdecode_backend='cv2')
        return None
    if kind != 'Resize' or not isinstance(entry.get('scale'), (tuple, list)):
        raise UnknownStepError(kind)
    scale, keep_ratio = list(entry.pop('scale')), entry.pop('keep_ratio', False)
    _allow(entry, kind, 'clip_object_border', interpolation='bilinear', backend='cv2')
    if keep_ratio:
        return dict(type='fit', scale=scale, resampling='opencv')
    return dict(type='stretch', size=scale[::-1], resampling='opencv')


def _classification_step(entry: dict) -> dict:
    kind = entry.pop('type')
    if kind == 'CenterCrop':
        size = list(_pair(entry.pop('size')))
        _allow(entry, kind)
        return dict(type='center_crop', size=size)
    if kind != 'Resize':
        raise UnknownStepError(kind)
    size, resampling = entry.pop('size'), entry.pop('interpolation', 'bilinear')
    _allow(entry, kind, antialias=True)
    if resampling not in ('bilinear', 'bicubic'):
        raise UnknownStepError(f'{kind} with interpolation={resampling!r}')
    height, *width = (size,) if isinstance(size, int) else size
    if not width:
        return dict(type='short_side', size=height, resampling=resampling)
    return dict(type='stretch', size=[height, *width], resampling=resampling)


def _allow(entry: Mapping, kind: str, *whatever: str, **usual: object) -> None:
    """Raise an UnknownStepError for an argument that changes what the step does."""
    for key, value in entry.items():
        if key not in whatever and (key not in usual or usual[key] != value):
            raise UnknownStepError(f'{kind} with {key}={value!r}')


def _pair(size: int | Sequence[int]) -> tuple[int, int]:
    first, *rest = (size,) if isinstance(size, int) else size
    return first, rest[0] if rest else first
