"""CARAFE upsampling (Wang et al., 2019) and masked convolution, by unfolding.

features ``(N, C, H, W)``, masks ``(N, group_size * kernel_size^2, sH, sW)`` with s the
``scale_factor``, output ``(N, C, sH, sW)``: each output pixel is the sum of the kernel_size^2
features around the pixel it lies in, weighted by its own mask.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..precision import widened


def carafe_naive_forward(
    features: Tensor,
    masks: Tensor,
    output: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Fill ``output``."""
    output.copy_(
        _reassemble(widened(features), widened(masks), kernel_size, group_size, scale_factor)
    )


def carafe_naive_backward(
    grad_output: Tensor,
    features: Tensor,
    masks: Tensor,
    grad_input: Tensor,
    grad_masks: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Fill both gradients by running the forward pass again with autograd."""
    with torch.enable_grad():
        leaves = [widened(t).detach().requires_grad_() for t in (features, masks)]
        out = _reassemble(leaves[0], leaves[1], kernel_size, group_size, scale_factor)
        grads = torch.autograd.grad(out, leaves, grad_output.to(out.dtype))
    grad_input.copy_(grads[0])
    grad_masks.copy_(grads[1])


def carafe_forward(
    features: Tensor,
    masks: Tensor,
    rfeatures: Tensor,
    routput: Tensor,
    rmasks: Tensor,
    output: Tensor,
    **sizes: int,
) -> None:
    """Fill ``output``, and ``rfeatures`` with what :func:`carafe_backward` needs.

    mmcv's kernel keeps the features there in another order; here it is a plain copy. ``routput``
    and ``rmasks`` are its work space.
    """
    rfeatures.copy_(features)
    carafe_naive_forward(features, masks, output, **sizes)


def carafe_backward(
    grad_output: Tensor,
    rfeatures: Tensor,
    masks: Tensor,
    rgrad_output: Tensor,
    rgrad_input_hs: Tensor,
    rgrad_input: Tensor,
    rgrad_masks: Tensor,
    grad_input: Tensor,
    grad_masks: Tensor,
    **sizes: int,
) -> None:
    """Fill both gradients; the four other ``rgrad_...`` are mmcv's work space."""
    carafe_naive_backward(grad_output, rfeatures, masks, grad_input, grad_masks, **sizes)


def masked_im2col_forward(
    im: Tensor,
    mask_h_idx: Tensor,
    mask_w_idx: Tensor,
    col: Tensor,
    kernel_h: int,
    kernel_w: int,
    pad_h: int,
    pad_w: int,
) -> None:
    """Fill ``col`` ``(C * kH * kW, K)`` with the patches of ``im`` at K places.

    Args:
        im: ``(1, C, H, W)``.
        mask_h_idx: the places' rows in the output of a convolution of stride 1, ``(K,)``.
        mask_w_idx: their columns.
        col: filled.
        kernel_h: kH.
        kernel_w: kW.
        pad_h: padding above and below.
        pad_w: padding left and right.
    """
    patches = F.unfold(im, (kernel_h, kernel_w), padding=(pad_h, pad_w))[0]  # (C * kH * kW, H'W')
    out_w = im.size(3) + 2 * pad_w - kernel_w + 1
    col.copy_(patches[:, mask_h_idx * out_w + mask_w_idx])


def masked_col2im_forward(
    col: Tensor,
    mask_h_idx: Tensor,
    mask_w_idx: Tensor,
    im: Tensor,
    height: int,
    width: int,
    channels: int,
) -> None:
    """Write ``col`` ``(C, K)`` into ``im`` ``(1, C, height, width)`` at the K places."""
    im[0, :, mask_h_idx, mask_w_idx] = col


def _reassemble(
    features: Tensor, masks: Tensor, kernel_size: int, group_size: int, scale_factor: int
) -> Tensor:
    n, c, h, w = features.shape
    k2, s = kernel_size**2, scale_factor
    around = F.unfold(features, kernel_size, padding=kernel_size // 2)  # (N, C * k2, H * W)
    around = around.view(n, group_size, c // group_size, k2, h, w)
    weights = masks.view(n, group_size, k2, h, s, w, s)
    # a and b count the output pixels inside an input pixel
    out = torch.einsum('ngckhw,ngkhawb->ngchawb', around, weights)
    return out.reshape(n, c, h * s, w * s)
