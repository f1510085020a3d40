"""The input that TResNet's weights were trained on, and who else is given something different.

Every published TResNet takes RGB in [0, 1]: no mean, no standard deviation. With ImageNet's usual
figures the same weights give plausible features and a bad accuracy, and nothing fails.
"""

import logging
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.logging import print_log
from torch import nn

CONVENTION = dict(mean=[0.0, 0.0, 0.0], std=[255.0, 255.0, 255.0], bgr_to_rgb=True)
MEND = 'model.data_preprocessor mean=[0, 0, 0], std=[255, 255, 255], bgr_to_rgb=True'


def read_convention(data_preprocessor: nn.Module) -> dict[str, Any]:
    """Return what a data preprocessor does to 8-bit BGR images.

    Args:
        data_preprocessor: MMDetection's or mmengine's ``ImgDataPreprocessor``, or
            ``ClsDataPreprocessor``.

    Returns:
        ``mean`` and ``std`` per channel in 0..255 (0 and 1 where it does not normalise) and
        ``bgr_to_rgb``: plain values, which a checkpoint's meta can hold.
    """
    mean, std = [0.0] * 3, [1.0] * 3
    if getattr(data_preprocessor, '_enable_normalize', False):
        mean, std = (data_preprocessor.get_buffer(k).flatten().tolist() for k in ('mean', 'std'))
    swaps = bool(getattr(data_preprocessor, '_channel_conversion', False))
    # A classifier's images may be read as RGB, which is as good as swapped.
    gives_rgb = getattr(data_preprocessor, 'gives_rgb', swaps)
    return dict(mean=mean, std=std, bgr_to_rgb=gives_rgb)


def compare(found: Mapping[str, object], wanted: Mapping[str, object], whose: str) -> str | None:
    """Return one line that says how two conventions differ, None where they do not.

    Args:
        found: What the model is given, as :func:`read_convention` returns it.
        wanted: What the weights were trained on, likewise.
        whose: What the weights are called in the line.
    """
    differ = [f'{k}={found[k]} (not {wanted[k]})' for k in wanted if found.get(k) != wanted[k]]
    if not differ:
        return None
    return (
        f'{whose} were trained on another input than data_preprocessor gives: {", ".join(differ)}'
    )


def warn_unless_unit_range(x: torch.Tensor) -> None:
    """Warn where images are not in [0, 1], whoever normalised them.

    Args:
        x: ``(N, C, H, W)``, as the backbone is given it.
    """
    low, high = (v.item() for v in x.detach().float().aminmax())
    if low < -0.01 or high > 1.01:
        print_log(
            f'pretrained TResNet weights take RGB in [0, 1], but these images range from '
            f'{low:.3g} to {high:.3g}: set {MEND}',
            logger='current',
            level=logging.WARNING,
        )
