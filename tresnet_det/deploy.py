"""What a trained model is turned into for inference."""

import copy

from mmcv.cnn import fuse_conv_bn
from torch import nn

from .models.conv_norm import ConvNorm


def fuse_norms(model: nn.Module) -> nn.Module:
    """Return an inference copy of a model with every norm folded into the convolution before it.

    A convolution's weight takes the norm's scale over the standard deviation, and its new bias what
    is left: the outputs are those of ``model.eval()`` up to rounding (1e-5 of their size in fp32),
    without the passes over the feature maps that the norms cost. TResNet's own norms are folded
    whatever their kind; the batch norms of other parts of the model, a ResNet's or a neck's, by
    :func:`mmcv.cnn.fuse_conv_bn`. A norm that follows no convolution, and a group norm, whose
    statistics are the picture's own, stay as they are.

    The copy is for inference in eager mode, under ``torch.compile`` and for export. It is in
    evaluation mode, without gradients, and does not load checkpoints of the original: load first.

    Args:
        model: Any model; a :class:`TResNet`, or a detector or classifier that has one.

    Returns:
        The copy; ``model`` itself is not changed.
    """
    fused = copy.deepcopy(model).eval().requires_grad_(False)
    for module in fused.modules():
        if isinstance(module, ConvNorm):
            module.fold_norm()
    return fuse_conv_bn(fused)
