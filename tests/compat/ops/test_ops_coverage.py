"""Every operator that MMDetection reaches is provided, and none of them leaves its device."""

import re
from pathlib import Path

import mmcv.ops
import pytest
import torch

from tresnet_det.compat.ops.extension import OPERATORS

OPS = Path(mmcv.ops.__file__).parent
# Oriented boxes share mmcv's file with nms; MMDetection has none.
NOT_MMDETECTIONS = {'nms_rotated', 'nms_quadri'}


# The files of mmcv.ops that MMDetection 3.3's code imports from or its configs name, and that load
# operators.
MODULES = (
    'carafe', 'deform_conv', 'deform_roi_pool', 'focal_loss', 'masked_conv',
    'modulated_deform_conv', 'multi_scale_deform_attn', 'nms', 'roi_align', 'roi_pool', 'sync_bn',
)  # fmt: skip


def operators_of(module):
    """The operators that a file of mmcv.ops loads from the extension."""
    text = (OPS / f'{module}.py').read_text()
    loads = re.findall(r"load_ext\(\s*'_ext',\s*\[(.*?)\]", text, re.DOTALL)
    return {name for load in loads for name in re.findall(r"'(\w+)'", load)}


def test_mmdetection_and_its_configs_reach_no_operator_that_is_missing():
    needed = set().union(*map(operators_of, MODULES)) - NOT_MMDETECTIONS
    assert len(needed) > 20
    assert needed <= set(OPERATORS)


def attention(x, device):
    return mmcv.ops.multi_scale_deform_attn.MultiScaleDeformableAttnFunction.apply(
        x.new_empty(1, 20, 2, 4, requires_grad=True),
        torch.tensor([[4, 4], [2, 2]]),  # whose values are read
        torch.tensor([0, 16]),
        x.new_empty(1, 3, 2, 2, 2, 2, requires_grad=True),
        x.new_empty(1, 3, 2, 2, 2),
        64,
    )


def sync_bn(x, device):
    x, c = x.detach().flatten(2), x.new_empty(4)  # mmcv's function asks for a CPU or CUDA tensor
    norm, out = torch.empty_like(x), torch.empty_like(x)
    OPERATORS['sync_bn_forward_mean'](x, c)
    OPERATORS['sync_bn_forward_var'](x, c, c)
    OPERATORS['sync_bn_forward_output'](x, c, c, c, c, c, c, norm, c, out, 1e-5, 0.1, 1)
    OPERATORS['sync_bn_backward_param'](x, norm, c, c)
    OPERATORS['sync_bn_backward_data'](x, c, c, c, norm, c, out)
    return out


def offsets(x, channels):
    return x.new_empty(2, channels, 8, 8, requires_grad=True)


def masked(x, device):
    places = torch.empty(3, dtype=torch.long, device=device)
    columns = x.new_empty(36, 3)
    OPERATORS['masked_im2col_forward'](x[:1], places, places, columns, 3, 3, 1, 1)
    return columns


CALLS = {
    'roi_align': lambda x, d: mmcv.ops.roi_align(x, x.new_empty(5, 5), 2, 0.5, 2, 'avg', True),
    'sigmoid_focal_loss': lambda x, d: mmcv.ops.sigmoid_focal_loss(
        x.flatten(1), torch.empty(2, dtype=torch.long, device=d), 2.0, 0.25, None, 'none'
    ),
    'softmax_focal_loss': lambda x, d: mmcv.ops.softmax_focal_loss(
        x.flatten(1), torch.empty(2, dtype=torch.long, device=d), 2.0, 0.25, None, 'sum'
    ),
    'deform_conv2d': lambda x, d: mmcv.ops.deform_conv2d(
        x, offsets(x, 18), x.new_empty(4, 4, 3, 3, requires_grad=True), 1, 1
    ),
    'modulated_deform_conv2d': lambda x, d: mmcv.ops.modulated_deform_conv2d(
        x, offsets(x, 18), offsets(x, 9), x.new_empty(4, 4, 3, 3), x.new_empty(4), 1, 1
    ),
    'carafe': lambda x, d: mmcv.ops.carafe(x, x.new_empty(2, 9, 16, 16), 3, 1, 2),
    'masked_im2col': masked,
    'ms_deform_attn': attention,
    'sync_bn': sync_bn,
}


@pytest.mark.parametrize('name', CALLS)
def test_an_operator_stays_on_the_device_of_its_input(name):
    """The meta device computes shapes only and refuses other devices' tensors: it needs no GPU."""
    x = torch.empty(2, 4, 8, 8, device='meta', requires_grad=True)
    out = CALLS[name](x, 'meta')
    assert out.device.type == 'meta'
    if out.requires_grad:
        out.sum().backward()
