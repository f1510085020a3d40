"""The image normalization that TResNet's weights were trained with, and warnings of another one.

Every published TResNet takes RGB in [0, 1]: no mean, no standard deviation. With ImageNet's usual
mean and std the same weights give plausible features and a bad accuracy, and nothing fails.
"""

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ..compat.log import print_log
from ..errors import shown

IMG_NORM_CFG = dict(mean=[0.0, 0.0, 0.0], std=[255.0, 255.0, 255.0], bgr_to_rgb=True)
_FIX = 'model.data_preprocessor mean=[0, 0, 0], std=[255, 255, 255], bgr_to_rgb=True'


def read_img_norm(data_preprocessor: nn.Module) -> dict[str, Any]:
    """Return what a data preprocessor does to 8-bit BGR images.

    Args:
        data_preprocessor: MMDetection's or mmengine's ``ImgDataPreprocessor``, or
            ``ClsDataPreprocessor``.

    Returns:
        ``mean`` and ``std`` per channel in 0..255 (0 and 1 where it does not normalize) and
        ``bgr_to_rgb``: plain values, which a checkpoint's meta can hold.
    """
    mean, std = [0.0] * 3, [1.0] * 3
    if getattr(data_preprocessor, '_enable_normalize', False):
        mean, std = (data_preprocessor.get_buffer(k).flatten().tolist() for k in ('mean', 'std'))
    swaps = bool(getattr(data_preprocessor, '_channel_conversion', False))
    # A classifier's images may be read as RGB, which is as good as swapped.
    gives_rgb = getattr(data_preprocessor, 'gives_rgb', swaps)
    return dict(mean=mean, std=std, bgr_to_rgb=gives_rgb)


def warn_of_other_img_norm(
    model: nn.Module, trained_with: Mapping[str, Any] | None, source: str
) -> None:
    """Warn where a model's data preprocessor normalizes otherwise than its weights need.

    Args:
        model: With or without a ``data_preprocessor``.
        trained_with: As :func:`read_img_norm` returns it, None where nobody knows.
        source: What the weights came from.
    """
    preprocessor = getattr(model, 'data_preprocessor', None)
    if preprocessor is None or trained_with is None:
        return
    found = read_img_norm(preprocessor)
    differ = [
        f'{k}={found[k]} (not {shown(trained_with[k])})'
        for k in found
        if k in trained_with and found[k] != trained_with[k]
    ]
    if not differ:
        return
    advice = f': set {_FIX}' if trained_with == IMG_NORM_CFG else ''
    print_log(
        f'the weights of {source} were trained with another image normalization than '
        f'data_preprocessor has: {", ".join(differ)}{advice}',
        logging.WARNING,
    )


def warn_unless_unit_range(x: torch.Tensor) -> None:
    """Warn where images are not in [0, 1], whoever normalized them.

    Args:
        x: ``(N, C, H, W)``, the backbone's input.
    """
    low, high = (v.item() for v in x.detach().float().aminmax())
    if low < -0.01 or high > 1.01:
        print_log(
            f'pretrained TResNet weights take RGB in [0, 1], but these images range from '
            f'{low:.3g} to {high:.3g}: set {_FIX}',
            logging.WARNING,
        )
