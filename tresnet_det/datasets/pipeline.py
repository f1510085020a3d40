"""Transforms of images from a config: torchvision's v2 by name, and Cutout."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from enum import Enum
from typing import Any

import torch
from torch import nn

from ..errors import InputError
from ..files import check_size
from .decode import to_pillow, to_tensor

# These policies are quicker on Pillow's images than on tensors, there and back included.
ON_PILLOW = ('AutoAugment', 'RandAugment', 'TrivialAugmentWide')

# Single-label, 224 pixels: the crop comes first, so that all else works on a small image.
TRAIN_PIPELINE = (
    dict(type='RandomResizedCrop', size=224),
    dict(type='RandomHorizontalFlip'),
    dict(type='RandAugment'),
)
TEST_PIPELINE = (
    dict(type='Resize', size=256),
    dict(type='CenterCrop', size=224),
)

# ASL's multi-label recipe (arXiv 2009.14119): squished, since a crop may lose an object.
MULTI_LABEL_TRAIN_PIPELINE = (
    dict(type='Resize', size=(448, 448)),
    dict(type='Cutout', ratio=0.5),
    dict(type='RandAugment'),
)
MULTI_LABEL_TEST_PIPELINE = (dict(type='Resize', size=(448, 448)),)


class Cutout(nn.Module):
    """Fill a rectangle with one random colour, as ASL's training does, in every image.

    Its centre is anywhere in the image, so that the border cuts much of it away: at a ratio of
    0.5, an image loses 19 % of its area on average.

    Args:
        ratio: Sides of the rectangle as a share of the image's, in (0, 1].

    Raises:
        InputError: ``ratio`` is out of its range.
    """

    def __init__(self, ratio: float = 0.5) -> None:
        super().__init__()
        if not 0 < ratio <= 1:
            raise InputError(f'ratio of Cutout must be in (0, 1], got {ratio}')
        self.ratio = ratio

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return a copy of an image, ``(3, H, W)`` of uint8, with the rectangle in it."""
        rows, columns = (self._span(side) for side in image.shape[1:])
        image = image.clone()
        image[:, rows, columns] = torch.randint(256, (3, 1, 1), dtype=torch.uint8)
        return image

    def _span(self, side: int) -> slice:
        half = int(self.ratio * side / 2 + 0.5)
        centre = int(torch.randint(side, ()))
        return slice(max(centre - half, 0), centre + half)

    def extra_repr(self) -> str:
        return f'ratio={self.ratio}'


class OnPillow(nn.Module):
    """Apply a transform to the image as Pillow's, where that is the quicker way.

    Args:
        transform: Takes and returns a Pillow image.
    """

    def __init__(self, transform: Callable) -> None:
        super().__init__()
        self.transform = transform

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the transformed image, ``(3, H, W)`` of uint8."""
        return to_tensor(self.transform(to_pillow(image)))


OURS = {'Cutout': Cutout}


def build_transforms(pipeline: Sequence[Mapping], where: str = 'pipeline') -> Callable:
    """Build the transforms that a config lists.

    A name is one of torchvision.transforms.v2, with its arguments, or ``Cutout``. Interpolations
    and AutoAugment's policies are written as text (``'bicubic'``, ``'cifar10'``), transforms within
    others (``RandomApply``, ``RandomChoice``) as a list of dicts too. Those of ``ON_PILLOW`` run on
    Pillow's images, where they are quicker.

    Args:
        pipeline: One dict a transform, its name in ``type``.
        where: What messages call the list.

    Returns:
        The transforms in one, from a uint8 tensor ``(3, H, W)`` to what the last one gives.

    Raises:
        InputError: A name or an argument is none of the transform's.
    """
    from torchvision.transforms import v2

    if not isinstance(pipeline, (list, tuple)):
        raise InputError(f'{where} is {str(pipeline)[:80]!r}: write a list of dicts')
    built = [_build_one(entry, f'{where}[{i}]') for i, entry in enumerate(pipeline)]
    return v2.Compose(built) if built else nn.Identity()


def _build_one(entry: Mapping, where: str) -> Callable:
    from torchvision.transforms import v2

    if not isinstance(entry, Mapping) or not isinstance(entry.get('type'), str):
        raise InputError(f"{where} is {str(entry)[:80]!r}: write dict(type='NAME', ...)")
    arguments = dict(entry)
    name = arguments.pop('type')
    known = {key: value for key, value in vars(v2).items() if inspect.isclass(value)} | OURS
    kind = known.get(name)
    if kind is None or not issubclass(kind, nn.Module):
        close = get_close_matches(name, known, cutoff=0.5)
        hint = f'did you mean {" or ".join(close)}?' if close else 'the image is read already'
        raise InputError(f'{where}: torchvision.transforms.v2 has no {name!r}: {hint}')
    where = f'{where} ({name})'
    if isinstance(arguments.get('transforms'), (list, tuple)):
        inner = arguments['transforms']
        arguments['transforms'] = [
            _build_one(part, f'{where}.transforms[{i}]') for i, part in enumerate(inner)
        ]
    for key, enum in (
        ('interpolation', v2.InterpolationMode),
        ('policy', v2.AutoAugmentPolicy),
    ):
        if isinstance(arguments.get(key), str):
            arguments[key] = _member(enum, arguments[key], f'{where}: {key}')
    try:
        transform = kind(**arguments)
    except (TypeError, ValueError) as error:
        takes = ', '.join(inspect.signature(kind).parameters)
        raise InputError(f'{where}: {" ".join(str(error).split())}; it takes {takes}') from error
    if isinstance(transform, v2.RandAugment) and not (
        0 <= transform.magnitude < transform.num_magnitude_bins
    ):
        raise InputError(
            f'{where}: magnitude must be from 0 to {transform.num_magnitude_bins - 1}, '
            f'got {transform.magnitude}'
        )
    if isinstance(transform, v2.Resize) and transform.size and len(transform.size) == 1:
        transform.register_forward_pre_hook(_check_resized)
    return OnPillow(transform) if name in ON_PILLOW else transform


def _check_resized(resize: Any, inputs: tuple) -> None:
    """Refuse to enlarge a line of pixels until its short side is an image's: it takes gigabytes."""
    short, long = sorted(inputs[0].shape[-2:])
    wide = resize.size[0] * long // max(short, 1)
    check_size('after Resize', resize.size[0], min(wide, resize.max_size or wide))


def _member(enum: type[Enum], value: str, where: str) -> Enum:
    values = [member.value for member in enum]
    if value not in values:
        raise InputError(f'{where} is {value!r}; it must be one of {values}')
    return enum(value)
