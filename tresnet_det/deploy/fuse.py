"""A trained model prepared for inference: its norms folded into its convolutions."""

import copy
from collections import Counter

from mmcv.cnn import fuse_conv_bn
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..backbone.blocks import ConvNorm


def fuse_norms(model: nn.Module) -> nn.Module:
    """Return an inference copy of a model with every norm folded into the convolution before it.

    A convolution's weight takes the norm's scale over the standard deviation, and its new bias what
    is left: the outputs are those of ``model.eval()`` up to rounding (1e-5 of their size in fp32),
    without the passes over the feature maps that the norms cost. TResNet's own norms are folded
    whatever their kind; the batch norms of other parts of the model, a ResNet's or a neck's, by
    :func:`mmcv.cnn.fuse_conv_bn`, for which a norm takes the output of the convolution that stands
    before it in their common parent. A norm without one, and a group norm, whose statistics are the
    image's own, stay as they are. A model whose norms are folded already is just copied.

    The copy is for inference in eager mode, under ``torch.compile`` and for export. It is in
    evaluation mode, without gradients, and does not load checkpoints of the original: load first.

    Args:
        model: Any model; a :class:`TResNet`, or a detector or classifier that has one.

    Returns:
        The copy; ``model`` itself is not changed.

    Raises:
        InputError: If a norm of the TResNet keeps no running statistics.
    """
    fused = copy.deepcopy(model).eval()
    for module in fused.modules():
        if isinstance(module, ConvNorm):
            module.fold_norm()
    _unshare_normed_convolutions(fused)
    return fuse_conv_bn(fused).requires_grad_(False)  # mmcv's filters are new parameters


def _unshare_normed_convolutions(model: nn.Module) -> None:
    """Give a parent with a batch norm a copy of any convolution that other parents have too.

    RTMDet's levels share convolutions but not norms: all would be folded into one filter.
    """
    parents: Counter[nn.Module] = Counter(
        child
        for module in model.modules()
        for child in module.children()
        if isinstance(child, nn.Conv2d)
    )
    for module in list(model.modules()):
        if any(isinstance(child, _BatchNorm) for child in module.children()):
            for name, child in list(module.named_children()):
                if parents[child] > 1:
                    setattr(module, name, copy.deepcopy(child))
