"""InPlaceABN by its formula in float64: outputs, gradients and statistics, and what is refused."""

import copy

import pytest
import torch

from tresnet_det.layers import InPlaceABN

SLOPE = 1e-2
MODES = pytest.mark.parametrize('training', [True, False], ids=['train', 'eval'])
ACTIVATIONS = pytest.mark.parametrize('activation', ['leaky_relu', 'identity'])
LAYOUTS = pytest.mark.parametrize(
    'layout', [torch.contiguous_format, torch.channels_last], ids=['contiguous', 'channels_last']
)
# Both signs, and for the identity, which is never inverted, tiny ones and zero.
WEIGHTS = [1.0, -0.7, 0.3, -1.5]
TINY_WEIGHTS = [0.0, 1e-6, -1e-4, 0.01]


def make(activation, weights, training=True, dtype=torch.float32, slope=SLOPE):
    norm = InPlaceABN(len(weights), activation=activation, activation_param=slope)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor(weights))
        norm.bias.uniform_(-0.2, 0.2)
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    return norm.to(dtype).train(training)


def batch(channels, dtype=torch.float32, layout=torch.contiguous_format):
    x = torch.randn(4, channels, 6, 5, dtype=torch.float64) * 2 + 1
    return x.to(dtype).to(memory_format=layout)


class Reference:
    """Batch norm by its formula in float64, scale |w| + eps, slope 1 at w = 0; then the ReLU."""

    def __init__(self, norm, x, grad, slope=SLOPE):
        x = x.detach().double().requires_grad_()
        w = norm.weight.detach().double().requires_grad_()
        b = norm.bias.detach().double().requires_grad_()
        g = w * torch.where(w < 0, -1.0, 1.0) + norm.eps
        axes, shape = (0, 2, 3), (1, -1, 1, 1)
        self.running_mean, self.running_var = norm.running_mean.double(), norm.running_var.double()
        if norm.training:
            mean, var = x.mean(axes), x.var(axes, correction=0)
            self.running_mean = 0.9 * self.running_mean + 0.1 * mean.detach()
            self.running_var = 0.9 * self.running_var + 0.1 * x.var(axes, correction=1).detach()
        else:
            mean, var = self.running_mean, self.running_var
        xhat = (x - mean.view(shape)) / (var.view(shape) + norm.eps).sqrt()
        z = xhat * g.view(shape) + b.view(shape)
        self.y = z if norm.activation == 'identity' else torch.where(z > 0, z, z * slope)
        self.dx, self.dw, self.db = torch.autograd.grad((self.y * grad.double()).sum(), (x, w, b))
        self.scale, self.bias = g.detach(), b.detach()


@LAYOUTS
@ACTIVATIONS
@MODES
def test_is_batch_norm_with_absolute_scale_and_leaky_relu_exactly(training, activation, layout):
    x = batch(4, torch.float64, layout).requires_grad_()
    norm = make(activation, WEIGHTS, training, torch.float64)
    grad = torch.randn_like(x)
    reference = Reference(norm, x, grad)
    y = norm(x)
    y.backward(grad)
    for ours, expected in (
        (y, reference.y),
        (x.grad, reference.dx),
        (norm.weight.grad, reference.dw),
        (norm.bias.grad, reference.db),
        (norm.running_mean, reference.running_mean),
        (norm.running_var, reference.running_var),
    ):
        torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)
    assert y.is_contiguous(memory_format=layout)


@LAYOUTS
@ACTIVATIONS
@MODES
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize('weights', [WEIGHTS, TINY_WEIGHTS], ids=['weights', 'tiny_weights'])
def test_errs_by_no_more_than_its_format_also_at_tiny_weights(
    dtype, training, activation, layout, weights
):
    eps = torch.finfo(dtype).eps
    x = batch(4, dtype, layout).requires_grad_()
    norm = make(activation, weights, training)
    grad = torch.randn_like(x)
    reference = Reference(norm, x, grad)
    with torch.autocast('cpu', dtype=dtype, enabled=dtype != torch.float32):
        y = norm(x)
    assert y.dtype == dtype
    y.backward(grad)
    # The output is rounded once, relative to its own size; the kernel's own sums are in fp32,
    # relative to the terms of x * (g r) + (bias - mean * g r).
    var = x.double().var((0, 2, 3), correction=0) if training else norm.running_var.double()
    invstd = (var + norm.eps).rsqrt()
    terms = reference.bias.abs() + reference.scale * invstd * x.double().abs().max()
    rounding = 2 * eps * reference.y.abs().amax((0, 2, 3)) + 2**-21 * terms
    assert ((y.double() - reference.y).abs().amax((0, 2, 3)) <= rounding).all()
    # The normalised input is recovered as (z - bias) / g from a z that was rounded when it was
    # stored and rounded again when it was inverted: an error of about 2 eps |z| / g, |z| up to
    # |bias| + g |xhat|. The identity keeps its input: no error of this kind.
    count = x[:, 0].numel()
    largest = 4.0  # no |xhat| in the batch is larger
    recovered = 2 * eps * (reference.bias.abs() / reference.scale + largest)
    if activation == 'identity':
        recovered = torch.zeros_like(recovered)
    grad_sum = grad.double().abs().sum((0, 2, 3))
    allowed_dw = grad_sum * (recovered + 2 * eps)
    assert ((norm.weight.grad.double() - reference.dw).abs() <= allowed_dw).all()
    assert ((norm.bias.grad.double() - reference.db).abs() <= grad_sum * 2 * eps).all()
    # dx = g r (dz - mean(dz) - xhat mean(dz xhat)): what xhat's error does to the last term.
    slack = recovered * 2 * (largest + recovered) * grad_sum / count if training else 0
    allowed_dx = reference.scale * invstd * (slack + 8 * eps * grad.double().abs().max())
    assert ((x.grad.double() - reference.dx).abs().amax((0, 2, 3)) <= allowed_dx).all()


def test_a_slope_too_small_for_half_precision_keeps_its_input():
    norm = make('leaky_relu', WEIGHTS, slope=1e-6)
    x = batch(4, torch.float16).requires_grad_()
    grad = torch.randn_like(x)
    reference = Reference(norm, x, grad, slope=1e-6)
    norm(x).backward(grad)
    torch.testing.assert_close(norm.weight.grad.double(), reference.dw, rtol=1e-2, atol=5e-2)


def test_a_change_of_the_kept_output_is_refused_and_not_a_wrong_gradient():
    y = make('leaky_relu', WEIGHTS)(batch(4).requires_grad_())
    y.add_(1)
    with pytest.raises(RuntimeError, match='modified by an inplace operation'):
        y.sum().backward()


@MODES
def test_the_package_as_backend_gives_the_same(training):
    pytest.importorskip('inplace_abn')
    norm = make('leaky_relu', WEIGHTS, training)
    other = copy.deepcopy(norm)
    other.backend = 'inplace_abn'
    x = batch(4)
    first, second = x.clone().requires_grad_(), x.clone().requires_grad_()
    grad = torch.randn_like(x)
    norm(first).backward(grad)
    other(second).backward(grad)
    torch.testing.assert_close(first.grad, second.grad, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(norm.weight.grad, other.weight.grad, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(norm.bias.grad, other.bias.grad, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(norm.running_mean, other.running_mean)
    torch.testing.assert_close(norm.running_var, other.running_var)
    assert torch.equal(second.detach(), x)  # the caller's tensor is not overwritten


def test_a_missing_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'inplace_abn', None)
    with pytest.raises(ImportError, match='pip install'):
        InPlaceABN(4, backend='inplace_abn')


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(activation='relu'), "'relu'"),
        (dict(backend='cuda'), "'cuda'"),
        (dict(activation_param=0.0), 'above 0'),
        (dict(eps=-1e-5), 'eps must be at least 0'),
        (dict(momentum=1.5), 'momentum must be from 0 to 1, got 1.5'),
        (dict(momentum=None), 'momentum must be from 0 to 1, got None'),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        InPlaceABN(4, **arguments)


def test_a_single_value_per_channel_cannot_be_normalised_in_training():
    with pytest.raises(ValueError, match='more than 1 value'):
        InPlaceABN(4)(torch.rand(1, 4, 1, 1))


@MODES
@ACTIVATIONS
@pytest.mark.parametrize('shape', [(2, 3, 4, 4), (2, 5, 4, 4), (4,)])
def test_another_number_of_channels_is_refused(shape, activation, training):
    # The native kernels do not look: they write to memory that is not theirs.
    norm = InPlaceABN(4, activation=activation).train(training)
    with pytest.raises(ValueError, match=r'a norm of 4 channels takes \(N, 4, \.\.\.\), got shape'):
        norm(torch.rand(shape))


def test_normalize_is_for_the_identity_only():
    with pytest.raises(ValueError, match='identity'):
        InPlaceABN(4).normalize(torch.rand(2, 4, 3, 3))


def test_it_is_no_batch_norm_to_what_replaces_batch_norms():
    # fuse_conv_bn and SyncBatchNorm conversion would drop the activation without a word.
    assert not isinstance(InPlaceABN(4), torch.nn.modules.batchnorm._BatchNorm)
    assert torch.nn.SyncBatchNorm.convert_sync_batchnorm(InPlaceABN(4)).__class__ is InPlaceABN
