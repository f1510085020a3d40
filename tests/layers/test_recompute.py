"""A convolution that computes its input again has the gradients of the plain one."""

import pytest
import torch
from torch import nn

from tresnet_det.layers.refinements import convolve

BOTH_LAYOUTS = pytest.mark.parametrize(
    'layout', [torch.contiguous_format, torch.channels_last], ids=['contiguous', 'channels_last']
)


def convolve_product(conv, a, b):
    return convolve(conv, a * b, torch.mul, a.detach(), b.detach())


def leaves(dtype=torch.float64, layout=torch.contiguous_format):
    a = torch.randn(2, 6, 7, 5, dtype=dtype).to(memory_format=layout)
    return a.requires_grad_(), torch.randn(2, 6, 1, 1, dtype=dtype, requires_grad=True)


@BOTH_LAYOUTS
@pytest.mark.parametrize('options', [dict(), dict(stride=2, padding=1), dict(groups=3)])
def test_outputs_and_gradients_are_those_of_the_convolution(options, layout):
    conv = nn.Conv2d(6, 9, 3, bias=False, **options).double()
    a, b = leaves(layout=layout)
    y, expected = convolve_product(conv, a, b), conv(a * b)
    torch.testing.assert_close(y, expected, rtol=0, atol=0)
    ours, wanted = (
        torch.autograd.grad(t.square().sum(), [a, b, conv.weight]) for t in (y, expected)
    )
    torch.testing.assert_close(ours, wanted)


def test_a_change_of_what_it_is_made_from_is_refused_and_not_a_wrong_gradient():
    conv = nn.Conv2d(6, 9, 1, bias=False).double()
    a, b = leaves()
    kept = a * 1
    y = convolve_product(conv, kept, b)
    with torch.no_grad():
        kept.add_(1)
    with pytest.raises(RuntimeError, match='modified by an inplace operation'):
        y.sum().backward()


def test_other_kinds_of_convolution_run_as_they_are():
    class Doubling(nn.Conv2d):
        def forward(self, x):
            return 2 * super().forward(x)

    conv = Doubling(6, 9, 1, bias=False).double()
    a, b = leaves()
    torch.testing.assert_close(convolve_product(conv, a, b), conv(a * b))
