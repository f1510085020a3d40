"""BlurPool: timm's values and gradients in every layout and precision."""

import pytest
import torch
import torch.nn.functional as F
from timm.layers import BlurPool2d

from tresnet_det.layers import BlurPool

BOTH_LAYOUTS = pytest.mark.parametrize(
    'layout', [torch.contiguous_format, torch.channels_last], ids=['contiguous', 'channels_last']
)


@BOTH_LAYOUTS
@pytest.mark.parametrize('size', [(8, 8), (7, 9), (2, 2), (3, 2)])
def test_values_and_gradients_are_those_of_timms_blur(size, layout):
    x = torch.rand(2, 5, *size, dtype=torch.float64).to(memory_format=layout)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    y = BlurPool()(ours)
    expected = BlurPool2d(5).double()(theirs)
    torch.testing.assert_close(y, expected)
    weight = torch.rand_like(y)
    (y * weight).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


@BOTH_LAYOUTS
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_keeps_its_dtype_forward_and_backward(dtype, layout):
    x = torch.rand(2, 4, 8, 8, dtype=dtype).to(memory_format=layout).requires_grad_()
    y = BlurPool()(x)
    y.sum().backward()
    assert y.dtype == x.grad.dtype == dtype
    expected = BlurPool()(x.detach().double())
    torch.testing.assert_close(y.double(), expected, rtol=0, atol=2 * torch.finfo(dtype).eps)


def test_a_single_row_is_an_error():
    with pytest.raises(ValueError, match='at least 2 pixels'):
        BlurPool()(torch.rand(1, 3, 1, 8))


def test_the_layout_stays_where_padding_loses_it(monkeypatch):
    # CUDA's reflection_pad2d returns a contiguous tensor.
    pad = F.pad
    monkeypatch.setattr(F, 'pad', lambda *args, **kwargs: pad(*args, **kwargs).contiguous())
    x = torch.rand(2, 4, 7, 8).to(memory_format=torch.channels_last).requires_grad_()
    y = BlurPool()(x)
    y.sum().backward()
    for map_ in (y, x.grad):
        assert map_.is_contiguous(memory_format=torch.channels_last)
