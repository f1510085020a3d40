"""A batch as plain tensors, numbers and text, for files that run no code when they are read."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.structures import BaseDataElement

from ...errors import InputError

_KIND = 'kind of object'  # the key that tells an object from a dict of the batch's own


def to_plain(value: Any) -> Any:
    """Return what ``torch.load(weights_only=True)`` reads, sharing no memory with ``value``.

    Dicts, lists and tuples stay; arrays, data elements, boxes and masks become dicts with all that
    they hold. Of an object of any other kind only its type is kept.
    """
    if isinstance(value, torch.Tensor):
        return value.detach().as_subclass(torch.Tensor).cpu().clone()
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, np.generic):
        return to_plain(value.item())
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {to_plain(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return (list if isinstance(value, list) else tuple)(to_plain(item) for item in value)
    return _object_to_plain(value)


def _object_to_plain(value: Any) -> dict[str, Any]:
    # Here, since they bring pycocotools, which registering a hook should not.
    from mmdet.structures.bbox import BaseBoxes, get_box_type
    from mmdet.structures.mask import BitmapMasks, PolygonMasks

    name = f'{type(value).__module__}.{type(value).__qualname__}'
    if isinstance(value, np.ndarray) and value.dtype.kind in 'biuf':
        wide = value.astype(np.int64) if value.dtype.kind == 'u' and value.itemsize > 1 else value
        array = torch.from_numpy(np.array(wide, order='C'))
        return {_KIND: 'array', 'tensor': array, 'dtype': value.dtype.name}
    if isinstance(value, BaseDataElement):
        return {
            _KIND: 'element',
            'type': name,
            'meta': to_plain(dict(value.metainfo_items())),
            'data': to_plain(dict(value.items())),
        }
    if isinstance(value, BaseBoxes):
        name, _ = get_box_type(type(value))
        return {_KIND: 'boxes', 'type': name, 'data': to_plain(value.tensor)}
    if isinstance(value, (BitmapMasks, PolygonMasks)):
        return {
            _KIND: type(value).__name__,
            'masks': to_plain(value.masks),
            'size': (value.height, value.width),
        }
    return {_KIND: 'unknown', 'type': name}


def from_plain(value: Any) -> Any:
    """Return the batch that :func:`to_plain` was given, all tensors on the CPU.

    Data elements become instances of loaded children of ``BaseDataElement`` alone.

    Raises:
        InputError: It held an object of a kind that is not kept, or of a type that is not loaded.
    """
    if isinstance(value, (list, tuple)):
        return type(value)(from_plain(item) for item in value)
    if not isinstance(value, dict):
        return value
    kind = value.get(_KIND)
    if kind is None:
        return {key: from_plain(item) for key, item in value.items()}
    if kind == 'array':
        return value['tensor'].numpy().astype(value['dtype'])
    if kind == 'element':
        return _to_element(value)
    if kind == 'boxes':
        from mmdet.structures.bbox import get_box_type

        return get_box_type(value['type'])[1](value['data'])
    if kind in ('BitmapMasks', 'PolygonMasks'):
        from mmdet.structures import mask

        return getattr(mask, kind)(from_plain(value['masks']), *value['size'])
    raise InputError(f'the batch held a {value["type"]}, which is not kept and cannot be run again')


def _to_element(value: dict[str, Any]) -> BaseDataElement:
    kinds = {f'{kind.__module__}.{kind.__qualname__}': kind for kind in _children(BaseDataElement)}
    if value['type'] not in kinds:
        raise InputError(
            f'the batch held a {value["type"]}, which is not imported: name its module in the '
            "config's custom_imports"
        )
    element = kinds[value['type']](metainfo=from_plain(value['meta']))
    for name, item in from_plain(value['data']).items():
        element.set_field(item, name)
    return element


def _children(kind: type[BaseDataElement]) -> Iterator[type[BaseDataElement]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _children(child)


def find_files(batch: Any) -> list[str]:
    """Return the ``img_path`` of all data samples in a batch of any form, in its order."""
    if isinstance(batch, Mapping):
        if isinstance(batch.get('img_path'), (str, Path)):
            return [str(batch['img_path'])]
        return [path for item in batch.values() for path in find_files(item)]
    if isinstance(batch, (list, tuple)):
        return [path for item in batch for path in find_files(item)]
    path = getattr(batch, 'img_path', None)
    return [str(path)] if isinstance(path, (str, Path)) else []


def boxes_are_finite(batch: Any) -> bool:
    """Return whether the true boxes of a batch are, as far as it has any on the CPU."""
    samples = batch.get('data_samples') if isinstance(batch, Mapping) else None
    for sample in samples if isinstance(samples, (list, tuple)) else ():
        boxes = getattr(getattr(sample, 'gt_instances', None), 'bboxes', None)
        boxes = getattr(boxes, 'tensor', boxes)
        if not isinstance(boxes, torch.Tensor) or boxes.device.type != 'cpu':
            continue
        if not boxes.isfinite().all():
            return False
    return True


def find_non_finite(batch: Any) -> list[tuple[int | None, str]]:
    """Return where a batch of :func:`to_plain` has numbers that are not finite.

    Returns:
        For each place the image's number in the batch, None where it cannot be told, and a name
        such as ``inputs`` or ``data_samples.gt_instances.bboxes``.
    """
    if not isinstance(batch, dict):
        return list(dict.fromkeys((None, name) for name in _bad_tensors(batch, 'batch')))
    found: list[tuple[int | None, str]] = []
    for key, item in batch.items():
        # The images as a list or in one tensor, and a data sample for each.
        parts = item if isinstance(item, (list, tuple, torch.Tensor)) else None
        if parts is None or (isinstance(parts, torch.Tensor) and parts.dim() == 0):
            found += [(None, name) for name in _bad_tensors(item, str(key))]
            continue
        for number, part in enumerate(parts):
            found += [(number, name) for name in _bad_tensors(part, str(key))]
    return list(dict.fromkeys(found))


def _bad_tensors(value: Any, name: str) -> Iterator[str]:
    if isinstance(value, torch.Tensor):
        if not value.isfinite().all():
            yield name
    elif isinstance(value, dict):
        is_object = _KIND in value
        for key, item in value.items():
            inner = is_object and key in ('data', 'meta', 'tensor', 'masks')
            yield from _bad_tensors(item, name if inner else f'{name}.{str(key).lstrip("_")}')
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _bad_tensors(item, name)
    elif isinstance(value, float) and not math.isfinite(value):
        yield name
