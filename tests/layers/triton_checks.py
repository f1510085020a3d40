"""What the Triton kernels compute; run by ``test_triton_kernels.py``, in a process of its own.

Triton reads ``TRITON_INTERPRET`` when it is imported. With it the kernels run on the CPU, in
Triton's interpreter; without it on a GPU.
"""

import copy
import os
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from timm.layers import BlurPool2d

from tresnet_det.layers import InPlaceABN, triton_blur, triton_kernels, triton_norm
from tresnet_det.layers.inplace_abn import renormalize
from tresnet_det.layers.triton_blur import blur_pool
from tresnet_det.layers.triton_gate import gate_product
from tresnet_det.layers.triton_norm import inplace_abn

DEVICE = 'cpu' if os.environ.get('TRITON_INTERPRET') == '1' else 'cuda'
SLOPE, EPS = 1e-2, 1e-5
HALVES = [torch.float16, torch.bfloat16]
LAYOUTS = pytest.mark.parametrize(
    'layout', [torch.contiguous_format, torch.channels_last], ids=['contiguous', 'channels_last']
)
SLOPES = pytest.mark.parametrize('slope', [SLOPE, 1.0], ids=['leaky_relu', 'identity'])
MODES = pytest.mark.parametrize('training', [True, False], ids=['train', 'eval'])


@pytest.fixture(params=['usual', 'small'])
def tiles(request, monkeypatch):
    """Run with the tiles as they are, and with tiles so small that every loop goes round."""
    if request.param == 'small':
        small_tiles(monkeypatch)
    return request.param


def small_tiles(monkeypatch):
    monkeypatch.setattr(triton_kernels, 'TILE', 64)
    monkeypatch.setattr(triton_kernels, 'PROGRAMS', 24)
    monkeypatch.setattr(triton_norm, '_SPLITS_A_STEP', 2)
    monkeypatch.setattr(triton_norm, '_CHANNELS_A_PROGRAM', 2)
    monkeypatch.setattr(triton_blur, '_TILE', 64)


def batch(*shape, dtype=torch.float32, layout=torch.contiguous_format):
    x = torch.randn(shape, dtype=torch.float64) * 2 + 1
    return x.to(dtype).to(DEVICE, memory_format=layout)


def figures(channels):
    """Return weight (of both signs), bias, running mean and variance of float32."""
    weight, bias = torch.rand(channels) + 0.3, torch.randn(channels) * 0.2
    weight[1::2] *= -1
    figures = weight, bias, torch.randn(channels), torch.rand(channels) + 0.5
    return tuple(t.to(DEVICE) for t in figures)


def run_norm(x, grad, weight, bias, running_mean, running_var, training, slope=SLOPE):
    x, weight, bias = (t.detach().clone().requires_grad_() for t in (x, weight, bias))
    running = running_mean.clone(), running_var.clone()
    y, mean, invstd = inplace_abn(x, weight, bias, *running, training, 0.1, EPS, slope)
    y.backward(grad)
    assert not any(t.requires_grad for t in (mean, invstd))
    return SimpleNamespace(
        y=y.detach(), dx=x.grad, dw=weight.grad, dbias=bias.grad,
        mean=running[0], var=running[1], batch_mean=mean, invstd=invstd,
    )  # fmt: skip


def expected_norm(x, grad, weight, bias, running_mean, running_var, training, slope=SLOPE):
    x, weight, bias = leaves = [t.detach().double().requires_grad_() for t in (x, weight, bias)]
    running = running_mean.double(), running_var.double()
    scale = weight * torch.where(weight < 0, -1.0, 1.0) + EPS
    z = F.batch_norm(x, *running, scale, bias, training, 0.1, EPS)
    y = F.leaky_relu(z, slope)
    dx, dw, dbias = torch.autograd.grad(y, leaves, grad.double())
    var, mean = running[::-1]
    if training:
        var, mean = torch.var_mean(x.detach(), (0, 2, 3), correction=0)
    return SimpleNamespace(
        y=y.detach(), dx=dx, dw=dw, dbias=dbias,
        mean=running[0], var=running[1], batch_mean=mean, invstd=(var + EPS).rsqrt(),
    )  # fmt: skip


@LAYOUTS
@MODES
@SLOPES
@pytest.mark.parametrize(
    ('tiles', 'shape'),
    [
        ('usual', (3, 2, 41, 34)),
        ('usual', (9, 8, 1, 1)),
        ('small', (4, 5, 6, 7)),
        ('small', (2, 67, 3, 3)),
    ],
    indirect=['tiles'],
)
def test_the_norm_equals_batch_norm_and_leaky_relu(shape, training, layout, slope, tiles):
    x, grad = batch(*shape, layout=layout), batch(*shape, layout=layout)
    weight, *others = figures(shape[1])
    if slope == 1:  # what is not inverted is exact at any weight
        weight[0], weight[1] = 0, -1e-6
    arguments = x, grad, weight, *others, training, slope
    ours, expected = run_norm(*arguments), expected_norm(*arguments)
    for name in ('y', 'dx', 'mean', 'var', 'batch_mean', 'invstd'):
        torch.testing.assert_close(
            getattr(ours, name).double(), getattr(expected, name), rtol=1e-5, atol=1e-5, msg=name
        )
    # Sums over the batch err relative to the sum of their terms' sizes, not to their own.
    terms = grad.double().abs().sum((0, 2, 3))
    largest = 8  # no normalised value is larger
    assert ((ours.dbias.double() - expected.dbias).abs() <= 1e-6 * terms).all()
    assert ((ours.dw.double() - expected.dw).abs() <= 1e-6 * largest * terms).all()
    assert ours.y.stride() == ours.dx.stride() == x.stride()


@LAYOUTS
@MODES
@SLOPES
@pytest.mark.parametrize('dtype', HALVES)
def test_the_norm_errs_by_no_more_than_its_format(dtype, slope, training, layout):
    eps = torch.finfo(dtype).eps
    x, grad = (batch(3, 12, 7, 10, dtype=dtype, layout=layout) for _ in range(2))
    weight, bias, *running = figures(12)
    arguments = x, grad, weight, bias, *running, training, slope
    ours, expected = run_norm(*arguments), expected_norm(*arguments)
    assert ours.y.dtype == ours.dx.dtype == dtype
    assert ours.dw.dtype == torch.float32

    def largest(t):
        return t.double().abs().amax((0, 2, 3))

    # One rounding, by eps / 2 of the value on a GPU; the interpreter cuts bfloat16 off instead, by
    # up to eps. The sums in float32 are finer by far.
    assert (largest(ours.y - expected.y) <= eps * largest(expected.y)).all()
    # The normalised input is recovered from an output that was rounded once.
    var, mean = torch.var_mean(x.double(), (0, 2, 3), correction=0)
    if not training:
        mean, var = (t.double() for t in running)
    invstd = (var + EPS).rsqrt()
    xhat = largest((x.double() - mean[:, None, None]) * invstd[:, None, None])
    scale = weight.double().abs() + EPS
    recovered = eps * (bias.double().abs() / scale + xhat)
    terms = grad.double().abs().sum((0, 2, 3))
    assert ((ours.dw - expected.dw).abs() <= terms * recovered).all()
    assert ((ours.dbias - expected.dbias).abs() <= terms * 1e-6).all()
    # dx = scale * invstd * (dz - mean(dz) - xhat * mean(dz * xhat)), rounded once
    count = x[:, 0].numel()
    slack = recovered * (2 * xhat + recovered) * terms / count if training else 0
    allowed = eps * largest(expected.dx) + scale * invstd * slack
    assert (largest(ours.dx - expected.dx) <= allowed).all()


@MODES
@LAYOUTS
@pytest.mark.parametrize('activation', ['leaky_relu', 'identity'])
def test_the_module_gives_what_it_gives_on_torchs_kernels(activation, layout, training):
    x, grad = batch(3, 5, 6, 7, layout=layout), batch(3, 5, 6, 7)  # another layout's gradient
    options = dict(activation=activation, activation_param=0.1)
    ours = InPlaceABN(5, **options, backend='triton').to(DEVICE).train(training)
    with torch.no_grad():
        ours.weight.copy_(torch.tensor([1.0, -0.7, 0.4, -1.5, 0.1]))
        ours.bias.uniform_(-0.2, 0.2)
    theirs = copy.deepcopy(ours)
    theirs.backend = 'torch'
    inputs = []
    for norm in (ours, theirs):
        inputs.append(x.clone().requires_grad_())
        if activation == 'identity':
            y, *sources = norm.normalize(inputs[-1])
            torch.testing.assert_close(renormalize(*sources), y, rtol=1e-5, atol=1e-5)
        else:
            y = norm(inputs[-1])
        y.backward(grad)
        assert y.stride() == inputs[-1].grad.stride() == x.stride()
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad, rtol=1e-5, atol=1e-5)
    for name, parameter in ours.named_parameters():
        other = theirs.get_parameter(name).grad
        torch.testing.assert_close(parameter.grad, other, rtol=1e-4, atol=1e-4)
    for name, buffer in ours.named_buffers():
        torch.testing.assert_close(buffer, theirs.get_buffer(name))


@LAYOUTS
@pytest.mark.parametrize('dtype', [torch.float32, *HALVES])
@pytest.mark.parametrize('size', [(8, 8), (7, 9), (2, 2), (3, 2), (4, 67)])
def test_the_blur_is_timms(size, dtype, layout, tiles, monkeypatch):
    if size == (7, 9):  # as for a map of more values than 32 bits can count
        monkeypatch.setattr(triton_blur, '_WIDE', 0)
    x = batch(2, 3, *size, dtype=dtype, layout=layout).requires_grad_()
    theirs = x.detach().double().requires_grad_()
    y, expected = blur_pool(x), BlurPool2d(3).double().to(DEVICE)(theirs)
    grad = torch.randn_like(y)
    y.backward(grad)
    expected.backward(grad.double())
    assert y.dtype == x.grad.dtype == dtype
    close = dict(rtol=max(torch.finfo(dtype).eps, 1e-5), atol=1e-5)
    torch.testing.assert_close(y.double(), expected, **close)
    torch.testing.assert_close(x.grad.double(), theirs.grad, **close)
    assert y.is_contiguous(memory_format=layout)
    assert x.grad.is_contiguous(memory_format=layout)


@LAYOUTS
@pytest.mark.parametrize('dtype', [torch.float32, *HALVES])
@pytest.mark.parametrize('shape', [(2, 67, 3, 2), (3, 4, 19, 17)])
def test_the_gate_is_a_product(shape, dtype, layout, tiles):
    y = batch(*shape, dtype=dtype, layout=layout).requires_grad_()
    gate = torch.rand(*shape[:2], 1, 1).to(DEVICE, dtype).requires_grad_()
    grad = batch(*shape, dtype=dtype)  # contiguous whatever the map's layout
    leaves = [t.detach().double().requires_grad_() for t in (y, gate)]
    product, expected = gate_product(y, gate), leaves[0] * leaves[1]
    product.backward(grad)
    dy, dgate = torch.autograd.grad(expected, leaves, grad.double())
    eps = torch.finfo(dtype).eps
    assert product.dtype == y.grad.dtype == gate.grad.dtype == dtype
    torch.testing.assert_close(product.double(), expected, rtol=eps, atol=1e-7)
    torch.testing.assert_close(y.grad.double(), dy, rtol=eps, atol=1e-7)
    terms = (grad * y).detach().double().abs().sum((2, 3), keepdim=True)
    assert ((gate.grad - dgate).abs() <= eps * dgate.abs() + 1e-6 * terms).all()
    assert product.is_contiguous(memory_format=layout)
    assert y.grad.is_contiguous(memory_format=layout)


@pytest.mark.parametrize(
    'case',
    ['taken', 'identity', 'float64', 'two_axes', 'empty', 'auto', 'slope', 'sync', 'compile'],
)
def test_the_module_falls_back_where_the_kernels_do_not_serve(case, monkeypatch):
    calls = []

    def spy(*arguments):
        calls.append(arguments)
        return inplace_abn(*arguments)

    monkeypatch.setattr(triton_norm, 'inplace_abn', spy)
    norm = InPlaceABN(
        3,
        backend='auto' if case == 'auto' else 'triton',
        activation='identity' if case == 'identity' else 'leaky_relu',
        activation_param=1e-6 if case == 'slope' else 1e-2,
        sync=case == 'sync',
    ).to(DEVICE)
    x = batch(2, 3, 4, 5)
    x = dict(
        float64=x.double(), two_axes=x[:, :, 0, 0], empty=x[:0], slope=x.half()
    ).get(case, x)  # fmt: skip
    if case == 'float64':
        norm.double()
    if case == 'sync':
        monkeypatch.setattr('tresnet_det.layers.inplace_abn.sync_world_size', lambda: 2)
        monkeypatch.setattr(norm, '_forward_sync', lambda x, slope: (x,))
    if case == 'compile':
        norm = torch.compile(norm, backend='aot_eager', fullgraph=True)
    norm(x)
    assert len(calls) == (case in ('taken', 'identity'))


def test_figures_of_other_channels_are_refused():
    with pytest.raises(ValueError, match='4 channels'):
        InPlaceABN(4, backend='triton').to(DEVICE)(batch(2, 3, 4, 5))
    with pytest.raises(ValueError, match='none for'):
        gate_product(batch(2, 3, 4, 5), batch(2, 4, 1, 1))
