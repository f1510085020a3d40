"""TResNet: sizes, outputs, freezing, checkpointing and norms, and each wrong argument."""

import copy
import inspect
import math

import pytest
import torch
from torch import nn

from tresnet_det import TResNet
from tresnet_det.backbone.norms import iterate_norms
from tresnet_det.errors import InputError
from tresnet_det.layers import BlurPool, InPlaceABN
from tresnet_det.profiling.counts import kept_bytes_per_image

STRIDES = (4, 8, 16, 32)


def randomize_norms(model):
    """Random weights, biases and statistics, so that no branch is switched off."""
    for norm in iterate_norms(model):
        nn.init.uniform_(norm.weight, 0.5, 1.0)
        nn.init.normal_(norm.bias, std=0.1)
        norm.running_mean.normal_(std=0.1)
        norm.running_var.uniform_(0.5, 2)
    return model


def tiny(**kwargs):
    arch = dict(depths=(1, 1, 1, 1), width_factor=0.25)
    return TResNet(arch=kwargs.pop('arch', arch), **kwargs)


def loss_of(outputs):
    return sum((y * y).mean() for y in outputs)


@pytest.mark.parametrize(
    ('arch', 'channels', 'parameters'),
    [
        ('m', (64, 128, 1024, 2048), 31.4),
        ('l', (76, 152, 1216, 2432), 56.0),
        ('xl', (83, 166, 1328, 2656), 78.4),
        ('v2_l', (256, 512, 1024, 2048), None),
    ],
)
def test_sizes_are_the_papers_and_outputs_are_as_declared(arch, channels, parameters):
    with torch.device('meta'):
        backbone = TResNet(arch=arch).eval()
        outputs = backbone(torch.rand(1, 3, 64, 64))
    assert backbone.out_channels == channels
    assert backbone.out_strides == STRIDES
    assert [y.shape for y in outputs] == [
        (1, c, 64 // s, 64 // s) for c, s in zip(channels, STRIDES, strict=True)
    ]
    if parameters:  # the paper's million, with 1000 classes
        count = sum(p.numel() for p in backbone.parameters()) + (channels[-1] + 1) * 1000
        assert round(count / 1e6, 1) == parameters


@pytest.mark.parametrize('size', [(32, 32), (33, 47), (64, 33), (35, 100), (63, 61)])
def test_any_size_from_32_gives_ceil_shapes(size):
    outputs = tiny().eval()(torch.rand(2, 3, *size))
    for y, stride in zip(outputs, STRIDES, strict=True):
        assert y.shape[-2:] == (math.ceil(size[0] / stride), math.ceil(size[1] / stride))


def test_padding_is_black_at_the_right_and_bottom():
    backbone = randomize_norms(tiny()).eval()
    x = torch.rand(1, 3, 37, 42)
    padded = torch.zeros(1, 3, 40, 44)
    padded[..., :37, :42] = x
    for ours, expected in zip(backbone(x), backbone(padded), strict=True):
        torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize('fields', [dict(stem='conv'), dict(anti_alias=False)], ids=str)
def test_the_paper_refinements_can_be_left_out(fields):
    backbone = tiny(arch=dict(depths=(1, 1, 1, 1), width_factor=0.25, **fields))
    for y, channels, stride in zip(
        backbone(torch.rand(2, 3, 65, 90)), backbone.out_channels, STRIDES, strict=True
    ):
        assert y.shape == (2, channels, math.ceil(65 / stride), math.ceil(90 / stride))
    blurs = sum(isinstance(module, BlurPool) for module in backbone.modules())
    assert blurs == (0 if 'anti_alias' in fields else 3)
    assert backbone.conv1.conv.kernel_size == ((7, 7) if 'stem' in fields else (3, 3))


@pytest.mark.parametrize(
    ('images', 'message'),
    [
        (torch.rand(1, 3, 31, 64), 'at least 32 pixels a side, got 31x64'),
        (torch.rand(3, 64, 64), r'takes images of \(N, 3, H, W\), got \(3, 64, 64\)'),
        (torch.rand(1, 1, 3, 64, 64), r'got \(1, 1, 3, 64, 64\)'),
        (torch.rand(1, 4, 64, 64), r'got \(1, 4, 64, 64\)'),
        (torch.zeros(1, 3, 64, 64, dtype=torch.uint8), r'got torch.uint8: divide .* by 255'),
        (torch.zeros(1, 3, 64, 64, dtype=torch.int64), 'got torch.int64'),
    ],
    ids=['small', '3d', '5d', 'channels', 'uint8', 'int64'],
)
def test_an_input_that_does_not_fit_is_named_in_one_line(images, message):
    with torch.device('meta'):
        backbone = tiny()
    with pytest.raises(InputError, match=message) as caught:
        backbone(images)
    assert '\n' not in str(caught.value)


BOTTLENECKS = dict(depths=(2, 1, 2, 1), width_factor=0.25, block_types=('bottleneck',) * 4)
BOTH_KINDS = pytest.mark.parametrize(
    'arch', [dict(depths=(2, 1, 2, 1), width_factor=0.25), BOTTLENECKS], ids=['m', 'v2_l']
)


@BOTH_KINDS
def test_every_parameter_gets_a_finite_gradient_that_is_not_zero(arch):
    backbone = randomize_norms(TResNet(arch=arch)).train()
    loss_of(backbone(torch.rand(2, 3, 64, 64))).backward()
    for name, parameter in backbone.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


@BOTH_KINDS
@pytest.mark.parametrize('norm', ['InPlaceABN', 'BN'])
def test_each_branchs_last_norm_leaves_its_zero_initialisation(arch, norm):
    backbone = TResNet(arch=arch, norm_cfg=dict(type=norm)).train()
    last_norms = [block.last_norm for stage in backbone.stages for block in stage]
    assert all((n.weight == 0).all() for n in last_norms)
    loss_of(backbone(torch.rand(2, 3, 64, 64))).backward()
    for last in last_norms:
        assert torch.isfinite(last.weight.grad).all()
        assert (last.weight.grad != 0).any()


@pytest.mark.parametrize('out_indices', [(0,), (2,), (1, 3), (0, 1, 2)])
def test_out_indices_select_outputs_and_later_stages_are_not_built(out_indices):
    full = randomize_norms(tiny()).eval()
    part = tiny(out_indices=out_indices).eval()
    part.load_state_dict(full.state_dict(), strict=False)
    x = torch.rand(1, 3, 64, 64)
    outputs = full(x)
    for y, index in zip(part(x), out_indices, strict=True):
        torch.testing.assert_close(y, outputs[index])
    assert not hasattr(part, f'layer{max(out_indices) + 2}')
    assert part.out_strides == tuple(STRIDES[i] for i in out_indices)


@pytest.mark.parametrize('stages', [0, 1, 3])
def test_frozen_stages_keep_weights_and_statistics_in_train_mode(stages):
    backbone = randomize_norms(tiny(frozen_stages=stages)).train()
    frozen = ('conv1.', *(f'layer{i + 1}.' for i in range(stages)))
    before = copy.deepcopy(backbone.state_dict())
    optimizer = torch.optim.SGD(
        [p for p in backbone.parameters() if p.requires_grad], lr=0.1, weight_decay=0.1
    )
    loss_of(backbone(torch.rand(2, 3, 64, 64))).backward()
    optimizer.step()
    for key, value in backbone.state_dict().items():
        if key.startswith(frozen):
            assert torch.equal(value, before[key]), key
        else:
            assert not torch.equal(value, before[key]), key


@pytest.mark.parametrize('norm', ['InPlaceABN', 'BN'])
def test_norm_eval_keeps_statistics_while_weights_learn(norm):
    backbone = randomize_norms(tiny(norm_eval=True, norm_cfg=dict(type=norm))).train()
    before = copy.deepcopy(backbone.state_dict())
    x = torch.rand(2, 3, 64, 64)
    loss_of(backbone(x)).backward()
    torch.optim.SGD(backbone.parameters(), lr=0.1).step()
    for key, value in backbone.state_dict().items():
        is_statistic = 'running' in key or 'num_batches' in key
        assert torch.equal(value, before[key]) == is_statistic, key
    assert backbone.training
    # The kept statistics are those that normalise: train and eval mode agree.
    torch.testing.assert_close(backbone.train()(x), backbone.eval()(x))


@pytest.mark.parametrize('norm', ['InPlaceABN', 'BN'])
def test_with_cp_changes_neither_gradients_nor_statistics(norm):
    arguments = dict(norm_cfg=dict(type=norm), drop_path_rate=0.5)
    plain = randomize_norms(tiny(**arguments)).train()
    other = tiny(**arguments, with_cp=True).train()
    other.load_state_dict(plain.state_dict())
    x = torch.rand(2, 3, 64, 64)
    for backbone in (plain, other):
        torch.manual_seed(1)
        loss_of(backbone(x)).backward()
    for (name, p), q in zip(plain.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(q.grad, p.grad, rtol=1e-5, atol=1e-7, msg=name)
    for (name, p), q in zip(plain.named_buffers(), other.buffers(), strict=True):
        assert torch.equal(p, q), name


def test_with_cp_keeps_less_for_backward():
    arch = dict(depths=(2, 2, 2, 2), width_factor=0.25)
    plain, checkpointed = (
        kept_bytes_per_image(tiny(arch=arch, with_cp=c), 64) for c in (False, True)
    )
    assert checkpointed < plain / 2


def test_drop_path_rises_linearly_over_the_blocks_and_drops_in_training_only():
    backbone = tiny(arch=dict(depths=(2, 1, 1, 1), width_factor=0.25), drop_path_rate=0.4)
    rates = [getattr(b.drop_path, 'drop_prob', 0.0) for s in backbone.stages for b in s]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])
    x = torch.rand(2, 3, 64, 64)
    randomize_norms(backbone).eval()
    torch.testing.assert_close(backbone(x), backbone(x))
    assert not torch.equal(backbone.train()(x)[-1], backbone(x)[-1])


@pytest.mark.parametrize(
    ('norm_cfg', 'kind'),
    [
        (dict(type='BN'), nn.BatchNorm2d),
        (dict(type='SyncBN'), nn.SyncBatchNorm),
        (dict(type='InPlaceABN', sync=True, eps=1e-4), InPlaceABN),
    ],
)
def test_norm_cfg_chooses_the_norm(norm_cfg, kind):
    backbone = tiny(norm_cfg=norm_cfg)
    norms = list(iterate_norms(backbone))
    assert norms
    assert all(isinstance(norm, kind) for norm in norms)
    for key, value in norm_cfg.items():
        assert key == 'type' or all(getattr(norm, key) == value for norm in norms)


@pytest.mark.parametrize('norm', ['InPlaceABN', 'BN'])
def test_requires_grad_in_norm_cfg_freezes_weights_and_biases(norm):
    backbone = tiny(norm_cfg=dict(type=norm, requires_grad=False))
    for module in iterate_norms(backbone):
        assert not any(p.requires_grad for p in module.parameters())
    assert backbone.conv1.conv.weight.requires_grad


def test_an_empty_batch_has_empty_gradients_where_statistics_are_kept():
    backbone = tiny(norm_eval=True).train()
    x = torch.rand(0, 3, 64, 64)
    loss = sum(y.sum() for y in backbone(x))
    loss.backward()
    assert all((p.grad == 0).all() for p in backbone.parameters())


def test_slopes_are_the_stems_and_the_blocks():
    backbone = tiny(arch=dict(depths=(1, 1, 1, 1), stem_slope=0.2, slope=0.05))
    assert backbone.conv1.norm.activation_param == 0.2
    assert backbone.layer4[0].conv1.norm.activation_param == 0.05
    assert backbone.layer4[0].conv3.norm.activation == 'identity'


@pytest.mark.parametrize('variant', ['channels_last', 'compiled'])
def test_channels_last_and_compiled_give_the_same_outputs_and_gradients(variant):
    plain = randomize_norms(tiny()).double().train()
    other, x = copy.deepcopy(plain), torch.rand(2, 3, 64, 64, dtype=torch.float64)
    if variant == 'compiled':
        second = torch.compile(other, backend='aot_eager')(x)
    else:
        layout = torch.channels_last
        second = other.to(memory_format=layout)(x.to(memory_format=layout))
        assert all(y.is_contiguous(memory_format=layout) for y in second)
    first = plain(x)
    torch.testing.assert_close(second, first, rtol=1e-9, atol=1e-12)
    loss_of(first).backward()
    loss_of(second).backward()
    for (name, p), q in zip(plain.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(q.grad, p.grad, rtol=1e-9, atol=1e-12, msg=name)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(arch=dict(depth=(1, 1, 1, 1))), "unknown field 'depth'"),
        (dict(arch=dict(block_types=('basic',) * 3 + ('wide',))), "unknown block type 'wide'"),
        (dict(out_indices=(0, 4)), 'from 0 to 3'),
        (dict(out_indices=(-1,)), 'from 0 to 3'),
        (dict(out_indices=()), 'from 0 to 3'),
        (dict(out_indices=(2, 1)), 'increasing'),
        (dict(out_indices=(1,), frozen_stages=3), 'frozen_stages is 3: only 2 stages'),
        (dict(norm_cfg=dict(type='GN', num_groups=4)), "'GN' does not fit"),
        (dict(norm_cfg=dict(type='InPlaceABN', momntum=0.1)), 'momntum'),
        (dict(norm_cfg=dict(type='InPlaceABN', backend='cuda')), "backend 'cuda'"),
        (dict(norm_cfg=dict(type='InPlaceABN', activation='identity')), "argument 'activation'"),
        (dict(norm_cfg=dict(type='InPlaceABN', activation_param=0.2)), "'activation_param'"),
        (dict(norm_cfg=None), 'norm_cfg must be a dict'),
        (dict(norm_cfg=dict(type=['BN'])), 'does not fit'),
        (dict(norm_cfg=dict(type='BN', eps='x')), "norm_cfg.eps is 'x': give a number"),
        (dict(norm_cfg=dict(type='BN', num_groups=4)), 'num_groups'),
        (dict(norm_cfg=dict(type='InPlaceABN', momentum=2)), 'norm_cfg.momentum is 2: give'),
        (dict(norm_cfg=dict(type='InPlaceABN', sync='yes')), "'sync' in norm_cfg must be True"),
        (dict(norm_cfg=dict(type='InPlaceABN', num_features=4)), 'num_features'),
        (dict(init_cfg=dict(checkpoint='a.pth')), 'init_cfg must be a dict with a type'),
        (dict(init_cfg=[dict(type='Constant'), 'a.pth']), "dicts: got 'a.pth'"),
        (dict(init_cfg='a.pth'), "dicts: got 'a.pth'"),
        (dict(out_indices=3), 'increasing stage numbers'),
        (dict(out_indices=(False, 1)), 'increasing stage numbers'),
        (dict(out_indices=('0',)), 'increasing stage numbers'),
        (dict(arch=dict(stem='patch')), "unknown stem 'patch' in arch"),
    ],
)
def test_wrong_arguments_are_named_in_one_line(arguments, message):
    with pytest.raises(InputError, match=message) as caught, torch.device('meta'):
        TResNet(**arguments)
    assert '\n' not in str(caught.value)


WRONG = {
    'arch': ['s', None, 3, ['m'], {1: 2}],
    'in_channels': [0, -1, '3', 3.0, True, None],
    'frozen_stages': [-2, 5, '1', 1.0, True, None],
    'drop_path_rate': [1.0, -0.1, '0', float('nan'), None, True],
    'norm_eval': ['yes', 1, None],
    'with_cp': ['yes', 1, None],
    'recompute_outputs': ['yes', 1, None],
}
WRONG_FIELDS = {
    'depths': [3, '3333', (1, 1, 1), (1, 1, 0, 1), (1, 1, '1', 1), (1.0,) * 4, (True,) * 4, None],
    'width_factor': ['1', 0, -1, None, True, [1], float('nan'), float('inf')],
    'block_types': ['basic', (['basic'],) * 4, (None,) * 4, ('basic',) * 3],
    'se_stages': [True, (1, 1, 1, 0), ('yes',) * 4, (None,) * 4],
    'anti_alias': ['yes', 1, None],
    'stem': [None, ['conv'], 1],
    'stem_slope': ['0.01', 0.0, -1, None, True, float('nan'), float('inf')],
    'slope': ['0.01', 0.0, -1, None, True, float('nan'), float('inf')],
}


def test_every_field_and_argument_of_a_simple_type_is_in_the_tables():
    assert WRONG_FIELDS.keys() == TResNet.arch_settings['m'].keys()
    others = {'self', 'out_indices', 'norm_cfg', 'init_cfg'}  # above
    assert WRONG.keys() | others == inspect.signature(TResNet.__init__).parameters.keys()


@pytest.mark.parametrize(
    ('name', 'arguments'),
    [
        *((name, {name: value}) for name, values in WRONG.items() for value in values),
        *((n, dict(arch={n: value})) for n, values in WRONG_FIELDS.items() for value in values),
    ],
    ids=str,
)
def test_a_wrong_type_or_value_is_named_in_one_line(name, arguments):
    # block_types names a block type, and stem a stem.
    with (
        pytest.raises(InputError, match=name.removesuffix('s').replace('_type', '.type')) as caught,
        torch.device('meta'),
    ):
        TResNet(**arguments)
    assert '\n' not in str(caught.value)


def test_arguments_are_not_changed():
    arch, norm_cfg = dict(depths=[1, 1, 1, 1]), dict(type='InPlaceABN')
    tiny(arch=arch, norm_cfg=norm_cfg, out_indices=[0, 1])
    assert arch == dict(depths=[1, 1, 1, 1])
    assert norm_cfg == dict(type='InPlaceABN')
