import pytest
import torch
from torch import nn

from tresnet_det.layers.recompute import Recipe, convolve

BOTH_LAYOUTS = pytest.mark.parametrize(
    'layout', [torch.contiguous_format, torch.channels_last], ids=['contiguous', 'channels_last']
)


def product_and_recipe(a, b):
    return a * b, Recipe(torch.mul, a, b)


def leaves(dtype=torch.float64, layout=torch.contiguous_format):
    a = torch.randn(2, 6, 7, 5, dtype=dtype).to(memory_format=layout)
    return a.requires_grad_(), torch.randn(2, 6, 1, 1, dtype=dtype, requires_grad=True)


@BOTH_LAYOUTS
@pytest.mark.parametrize('options', [dict(), dict(stride=2, padding=1), dict(groups=3)])
def test_outputs_and_gradients_are_those_of_the_convolution(options, layout):
    conv = nn.Conv2d(6, 9, 3, bias=False, **options).double()
    (a, b), (other_a, other_b) = leaves(layout=layout), leaves(layout=layout)
    other_a.data, other_b.data = a.data.clone(), b.data.clone()
    y = convolve(conv, *product_and_recipe(a, b))
    gradients = torch.autograd.grad(y.square().sum(), [a, b, conv.weight])
    expected = conv(other_a * other_b)
    torch.testing.assert_close(y, expected, rtol=0, atol=0)
    wanted = torch.autograd.grad(expected.square().sum(), [other_a, other_b, conv.weight])
    torch.testing.assert_close(gradients, wanted)


def test_the_input_is_not_kept():
    conv = nn.Conv2d(6, 9, 1, bias=False).double()
    a, b = leaves()
    kept = set()

    def pack(tensor):
        kept.add(tensor.untyped_storage().data_ptr())
        return tensor

    x, recipe = product_and_recipe(a, b)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        y = convolve(conv, x, recipe)
    assert kept == {t.untyped_storage().data_ptr() for t in (a, b, conv.weight)}
    assert y.requires_grad


def test_a_change_of_what_it_is_made_from_is_refused_and_not_a_wrong_gradient():
    conv = nn.Conv2d(6, 9, 1, bias=False).double()
    a, b = leaves()
    kept = a * 1
    y = convolve(conv, *product_and_recipe(kept, b))
    with torch.no_grad():
        kept.add_(1)
    with pytest.raises(RuntimeError, match='modified by an inplace operation'):
        y.sum().backward()


def test_autocast_gives_the_outputs_and_gradients_of_an_ordinary_convolution():
    conv = nn.Conv2d(6, 9, 3, bias=False)
    a, b = leaves(torch.float32)
    results = []
    for recipe_of in (product_and_recipe, lambda a, b: (a * b, None)):
        with torch.autocast('cpu', torch.bfloat16):
            y = convolve(conv, *recipe_of(a, b))
        assert y.dtype == torch.bfloat16
        results.append([y, *torch.autograd.grad(y.float().square().sum(), [a, b, conv.weight])])
    assert [t.dtype for t in results[0]] == [t.dtype for t in results[1]]
    torch.testing.assert_close(*results, rtol=1e-2, atol=1e-2)


def test_autocast_leaves_float64_as_it_is():
    conv = nn.Conv2d(6, 9, 3, bias=False).double()
    a, b = leaves(torch.float64)
    with torch.autocast('cpu', torch.bfloat16):
        y = convolve(conv, *product_and_recipe(a, b))
    torch.testing.assert_close(y, conv(a * b), rtol=0, atol=0)


@pytest.mark.parametrize('frozen', ['weight', 'input'])
def test_what_is_frozen_gets_no_gradient(frozen):
    conv = nn.Conv2d(6, 9, 1, bias=False).double()
    a, b = leaves()
    if frozen == 'weight':
        conv.requires_grad_(False)
    else:
        a.requires_grad_(False)
        b.requires_grad_(False)
    convolve(conv, *product_and_recipe(a, b)).sum().backward()
    assert (conv.weight.grad is None) == (frozen == 'weight')
    assert (a.grad is None) == (frozen == 'input')


def test_other_kinds_of_convolution_run_as_they_are():
    class Doubling(nn.Conv2d):
        def forward(self, x):
            return 2 * super().forward(x)

    conv = Doubling(6, 9, 1, bias=False).double()
    a, b = leaves()
    torch.testing.assert_close(convolve(conv, *product_and_recipe(a, b)), conv(a * b))
