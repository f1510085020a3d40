"""The variants by name, as timm creates its models: a classifier, or a backbone of feature maps."""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ..checkpoints import load_head_weights, read_checkpoint
from ..checkpoints.formats import CLASSIFIER
from ..checkpoints.hub import HUB_PREFIX
from ..checkpoints.load import Source
from ..compat.log import print_log
from ..errors import InputError, check_flag, check_whole
from .tresnet import TResNet

# What `pretrained=True` means, as in timm.
PRETRAINED = {
    'm': 'timm://tresnet_m.miil_in21k_ft_in1k',
    'l': 'timm://tresnet_l.miil_in1k',
    'xl': 'timm://tresnet_xl.miil_in1k',
    'v2_l': 'timm://tresnet_v2_l.miil_in21k_ft_in1k',
}


class LinearHead(nn.Module):
    """Global average pooling and one fully-connected layer, or without classes the pooling alone.

    Args:
        in_channels: Channels of the feature map.
        num_classes: Classes; 0 for none.
    """

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.fc: nn.Module = nn.Identity()
        if num_classes:
            self.fc = nn.Linear(in_channels, num_classes)
            nn.init.normal_(self.fc.weight, std=0.01)
            nn.init.zeros_(self.fc.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``(N, num_classes)``, or ``(N, in_channels)``, of ``(N, in_channels, H, W)``."""
        return self.fc(x.mean((2, 3)))


class TResNetClassifier(nn.Module):
    """TResNet and a linear head; its weights have the names that ``ImageClassifier``'s have.

    Args:
        backbone: With the last stage alone among its outputs.
        num_classes: Classes; 0 for the pooled features in place of logits.

    Attributes:
        num_features: Channels of the last feature map.
    """

    def __init__(self, backbone: TResNet, num_classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.num_features = backbone.out_channels[-1]
        self.head = LinearHead(self.num_features, num_classes)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Return the last feature map, ``(N, num_features, ceil(H / 32), ceil(W / 32))``."""
        return self.backbone(x)[-1]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits, ``(N, num_classes)``, of RGB in [0, 1], ``(N, in_chans, H, W)``."""
        return self.head(self.forward_features(x))


def create_model(
    arch: str,
    pretrained: bool | Source = False,
    num_classes: int = 1000,
    features_only: bool = False,
    out_indices: Sequence[int] = (0, 1, 2, 3),
    in_chans: int = 3,
    **options: Any,
) -> nn.Module:
    """Return a TResNet in training mode, as :func:`tresnet_m` and the others do.

    Args:
        arch: ``'m'``, ``'l'``, ``'xl'`` or ``'v2_l'``.
        pretrained: Weights to load: a name of the hub as ``'timm://tresnet_m.miil_in1k'``, a file
            in the published, timm's or this project's format, or True for what timm loads by
            default. A head for another number of classes stays random, with a warning.
        num_classes: Outputs of the linear head; 0 for the pooled features, ``(N, C)``.
        features_only: Whether to return the backbone alone, a :class:`TResNet`: its output is a
            tuple of feature maps, which ``feature_info.channels()`` and ``.reduction()`` describe.
        out_indices: Its stages, of strides 4, 8, 16 and 32, increasing. Index i here is timm's
            i + 1, which counts the stem.
        in_chans: Channels of the input; 3 where weights are loaded.
        **options: Other arguments of :class:`TResNet`, such as ``drop_path_rate`` or ``norm_cfg``.

    Raises:
        MissingFileError: If there is no such file.
        InputError: If an argument is out of its range, or the weights do not fit (a
            ``ValueError``).
    """
    check_whole('num_classes', num_classes, 0)
    check_flag('features_only', features_only)
    pretrained = False if pretrained is None else pretrained
    if pretrained is not False and in_chans != 3:
        raise InputError(
            f'in_chans={in_chans} does not go with pretrained weights, which take RGB: use '
            'in_chans=3, and for grey images x.expand(-1, 3, -1, -1)'
        )
    source: Source | bool = PRETRAINED[arch] if pretrained is True else pretrained
    if isinstance(source, str) and source.startswith(HUB_PREFIX):
        name = source.removeprefix(HUB_PREFIX).partition('.')[0]
        if name != f'tresnet_{arch}':
            raise InputError(f'{source} has the weights of {name}, not of tresnet_{arch}')
    out_indices = out_indices if features_only else (3,)
    backbone = TResNet(arch, in_chans, out_indices, **options)
    model: Any = backbone if features_only else TResNetClassifier(backbone, num_classes)
    if not isinstance(source, bool):
        checkpoint = read_checkpoint(source)
        backbone.load_pretrained(checkpoint)
        if num_classes and not features_only:
            given = checkpoint.weights.get(f'{CLASSIFIER}weight', torch.empty(0))
            count = len(given) if given.dim() else 0
            if count == num_classes:
                load_head_weights(model, checkpoint)
            else:
                print_log(
                    f'{checkpoint.source} has a linear head of {count} classes, the model has '
                    f'{num_classes}: its head stays random',
                    logging.WARNING,
                )
    return model


def tresnet_m(pretrained: bool | Source = False, **options: Any) -> nn.Module:
    """TResNet-M, 31.4 M parameters; its arguments are those of :func:`create_model`."""
    return create_model('m', pretrained, **options)


def tresnet_l(pretrained: bool | Source = False, **options: Any) -> nn.Module:
    """TResNet-L, 56.0 M parameters; its arguments are those of :func:`create_model`."""
    return create_model('l', pretrained, **options)


def tresnet_xl(pretrained: bool | Source = False, **options: Any) -> nn.Module:
    """TResNet-XL, 78.4 M parameters; its arguments are those of :func:`create_model`."""
    return create_model('xl', pretrained, **options)


def tresnet_v2_l(pretrained: bool | Source = False, **options: Any) -> nn.Module:
    """TResNet-L of timm's second version, 46.2 M parameters; see :func:`create_model`."""
    return create_model('v2_l', pretrained, **options)
