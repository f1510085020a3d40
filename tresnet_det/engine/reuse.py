"""TResNet under any of MMDetection's detectors: one function from its config to ours."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from torch import nn

from ..errors import InputError
from ..models import TResNet

_STRIDES = (4, 8, 16, 32)
_PROBE_SIDE = 64  # pixels; a whole number of pixels at every stride
# Of these, only in_channels depends on the backbone.
_NECKS = (
    'ChannelMapper',
    'CSPNeXtPAFPN',
    'DilatedEncoder',
    'FPG',
    'FPN',
    'FPN_CARAFE',
    'HRFPN',
    'NASFCOS_FPN',
    'NASFPN',
    'PAFPN',
    'YOLOXPAFPN',
)
# These read the backbone's features themselves, and pass the channels on to their pixel decoder.
_PIXEL_DECODING_HEADS = ('MaskFormerHead', 'Mask2FormerHead')
_PUBLISHED = {
    'm': 'timm://tresnet_m.miil_in1k',
    'l': 'timm://tresnet_l.miil_in1k',
    'xl': 'timm://tresnet_xl.miil_in1k',
    'v2_l': 'timm://tresnet_v2_l.miil_in21k_ft_in1k',
}


def use_tresnet(
    cfg: Config,
    arch: str | Mapping[str, object] = 'm',
    init_cfg: Mapping[str, object] | None = None,
) -> Config:
    """Return a detector's config with TResNet in place of its backbone, and nothing else changed.

    That is the backbone, with outputs at the strides that the old one has them; the channels that
    the neck takes from it; the images' normalisation (RGB in [0, 1]); and the optimizer's rules
    where they would treat an In-Place ABN otherwise than a norm. ``frozen_stages``, ``norm_eval``,
    ``with_cp``, frozen norms and statistics shared between processes stay as they were; what only
    the old backbone has, such as deformable stages or plugins, goes with it. What it gives is
    measured: it is built, once.

    Args:
        cfg: Any MMDetection config with a ``model.backbone``; it is left as it is.
        arch: See :class:`TResNet`.
        init_cfg: The backbone's weights, see :class:`TResNet`; None for the published ImageNet
            weights of that arch. An arch given as a dict has none: without ``init_cfg`` it starts
            from scratch, with no stage frozen and the norms measuring their statistics.

    Returns:
        The new config; ``dump`` writes it to a file.

    Raises:
        InputError: If the config has no backbone, or one whose outputs TResNet has not, or if what
            follows the backbone is not known to depend on its channels alone.

    Examples:
        >>> from mmengine.hub import get_config
        >>> cfg = get_config('mmdet::atss/atss_r50_fpn_1x_coco.py')
        >>> use_tresnet(cfg, 'l').model.neck.in_channels
        [76, 152, 1216, 2432]
    """
    cfg = copy.deepcopy(cfg)
    model = cfg.get('model') or {}
    old = model.get('backbone')
    if not isinstance(old, dict):
        raise InputError('the config has no model.backbone that TResNet could take the place of')
    reader, where = _find_reader(model)
    net, channels, strides = _probe(old)
    _check_channels(reader, where, channels)
    hooks = [hook.get('type') for hook in cfg.get('custom_hooks') or []]
    shares_statistics = _is_synchronised(old) or 'SyncNormHook' in hooks
    backbone = _backbone_config(old, net, strides, arch, init_cfg, shares_statistics)

    out_channels = _out_channels(arch, backbone.get('out_indices', (0, 1, 2, 3)))
    single = isinstance(reader['in_channels'], int)
    reader['in_channels'] = out_channels[0] if single else list(out_channels)
    model['backbone'] = backbone
    preprocessor = dict(model.get('data_preprocessor') or dict(type='DetDataPreprocessor'))
    preprocessor.pop('rgb_to_bgr', None)
    preprocessor.update(mean=[0, 0, 0], std=[255, 255, 255], bgr_to_rgb=True)
    model['data_preprocessor'] = preprocessor
    cfg.load_from = None  # a detector on the old backbone
    if backbone.get('norm_cfg', {}).get('requires_grad', True):
        _treat_as_norms(cfg.get('optim_wrapper') or {})
    imports = dict(cfg.get('custom_imports') or dict(imports=[], allow_failed_imports=False))
    if 'tresnet_det' not in imports['imports']:
        imports['imports'] = [*imports['imports'], 'tresnet_det']
    cfg.custom_imports = imports
    return cfg


def _find_reader(model: Mapping) -> tuple[dict, str]:
    """Return what takes the backbone's features, and its name for messages."""
    neck = model.get('neck')
    if isinstance(neck, (list, tuple)) and neck:
        return _known(neck[0], 'model.neck[0]')
    if neck:
        return _known(neck, 'model.neck')
    head = model.get('panoptic_head') or {}
    if head.get('type') in _PIXEL_DECODING_HEADS:
        return head, 'model.panoptic_head'
    raise InputError(
        'the model has no neck: the layers after its backbone are made for its channels, so that '
        'TResNet cannot take its place'
    )


def _known(neck: dict, where: str) -> tuple[dict, str]:
    if neck.get('type') not in _NECKS:
        raise InputError(
            f'{where} is a {neck.get("type")}, and whether it depends on the backbone by its '
            'in_channels alone is not known here: set backbone and neck by hand '
            f'(known: {", ".join(_NECKS)})'
        )
    return neck, where


def _probe(backbone: Mapping) -> tuple[nn.Module, tuple[int, ...], tuple[int, ...]]:
    """Build a backbone and return it with its outputs' channels and strides."""
    backbone = {k: v for k, v in backbone.items() if k not in ('init_cfg', 'pretrained')}
    if _is_synchronised(backbone):  # mmcv's needs a process group
        backbone['norm_cfg'] = dict(type='BN')
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        try:
            net = MODELS.build(backbone)
        except (KeyError, TypeError, ImportError) as error:
            raise InputError(f'model.backbone {backbone["type"]}: {error}') from error
        net.eval()  # of which MMDetection's own return nothing
        features = net(torch.zeros(1, 3, _PROBE_SIDE, _PROBE_SIDE))
    return net, *zip(*((f.size(1), _PROBE_SIDE // f.size(2)) for f in features), strict=True)


def _is_synchronised(backbone: Mapping) -> bool:
    norm = backbone.get('norm_cfg') or {}
    return 'SyncBN' in norm.get('type', '') or norm.get('sync', False)


def _check_channels(reader: Mapping, where: str, channels: tuple[int, ...]) -> None:
    taken = reader.get('in_channels')
    if taken != channels[0] if isinstance(taken, int) else tuple(taken or ()) != channels:
        raise InputError(
            f'{where}.in_channels is {taken}, but the backbone gives {list(channels)}: '
            'the config does not fit together as it is'
        )


def _backbone_config(
    old: Mapping,
    net: nn.Module,
    strides: tuple[int, ...],
    arch: str | Mapping[str, object],
    init_cfg: Mapping[str, object] | None,
    shares_statistics: bool,
) -> dict:
    """Return TResNet's config; of what the old one was told, it keeps what TResNet has too.

    Args:
        old: The old backbone's config.
        net: The old backbone.
        strides: Of the old backbone's outputs.
        arch: See :class:`TResNet`.
        init_cfg: See :func:`use_tresnet`.
        shares_statistics: Whether processes share them, by the norm or by a hook that does not
            know an In-Place ABN.
    """
    if any(s not in _STRIDES for s in strides) or list(strides) != sorted(set(strides)):
        raise InputError(
            f'model.backbone {old["type"]} has outputs at strides {list(strides)}; '
            f'TResNet has each of {list(_STRIDES)} once'
        )
    backbone: dict[str, Any] = dict(type='TResNet', arch=arch)
    if strides != _STRIDES:
        backbone['out_indices'] = tuple(map(_STRIDES.index, strides))
    if init_cfg is None and isinstance(arch, str):
        init_cfg = dict(type='Pretrained', checkpoint=_PUBLISHED.get(arch))
    if init_cfg is not None:
        if getattr(net, 'frozen_stages', -1) >= 0:
            backbone['frozen_stages'] = net.frozen_stages
        # A net without batch norms says nothing of them: a few images per GPU are too few.
        if getattr(net, 'norm_eval', True):
            backbone['norm_eval'] = True
    learns = (old.get('norm_cfg') or {}).get('requires_grad', True)
    if shares_statistics:
        backbone['norm_cfg'] = dict(type='InPlaceABN', sync=True)
    elif not learns and init_cfg is not None:
        backbone['norm_cfg'] = dict(type='InPlaceABN', requires_grad=False)
    if old.get('with_cp'):
        backbone['with_cp'] = True
    if init_cfg is not None:
        backbone['init_cfg'] = dict(init_cfg)
    return backbone


def _out_channels(
    arch: str | Mapping[str, object], out_indices: tuple[int, ...]
) -> tuple[int, ...]:
    """Return the channels of TResNet's outputs, which do not depend on its depths."""
    settings = TResNet.arch_settings.get(arch) if isinstance(arch, str) else arch
    if settings is not None:  # else the constructor names the arch that there is not
        arch = dict(settings, depths=(1, 1, 1, 1))
    with torch.device('meta'):
        return TResNet(arch=arch, out_indices=out_indices).out_channels


def _treat_as_norms(optim_wrapper: dict) -> None:
    """Keep weight decay, and a learning rate for biases, from the norms of TResNet.

    mmengine's rules for norms know torch's norms only. Where a custom key is for the backbone, it
    alone counts, as it did for the old one.
    """
    if 'weight_decay' not in (optim_wrapper.get('optimizer') or {}):
        return
    paramwise = optim_wrapper.get('paramwise_cfg') or {}
    custom_keys = paramwise.get('custom_keys') or {}
    if any(key in 'backbone.' for key in custom_keys):
        return
    if 'bias_lr_mult' in paramwise:
        paramwise['custom_keys'] = {**custom_keys, '.abn.': dict(decay_mult=0.0)}
    else:
        paramwise.setdefault('flat_decay_mult', 0.0)
    optim_wrapper['paramwise_cfg'] = paramwise
