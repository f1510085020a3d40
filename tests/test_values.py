"""The table of values: what is outside a range is one line with its key and range, before a model.

The check reads a config and builds nothing, so that each case costs a millisecond; some builders
show that the ends of the ranges are real.
"""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import HOOKS, PARAM_SCHEDULERS
from torch import nn

from tresnet_det import TResNet, values
from tresnet_det.cli.config_values import parse_value
from tresnet_det.engine import config as edit
from tresnet_det.errors import InputError
from tresnet_det.values import VALUES, check_value, check_values

LOADER = dict(
    batch_size=2,
    num_workers=2,
    dataset=dict(
        type='RepeatDataset',
        dataset=dict(
            type='CocoDataset',
            pipeline=[
                dict(type='LoadImage'),
                dict(type='Resize', scale=(1333, 800), keep_ratio=True),
                dict(type='RandomFlip', prob=0.5),
                dict(type='RandomChoiceResize', scales=[(1333, 640), (1333, 800)]),
                dict(type='RandomResizedCrop', scale=(0.3, 1.0)),  # shares, not pixels
            ],
        ),
    ),
)
CONFIG = dict(
    model=dict(
        backbone=dict(arch=dict(width_factor=1.0), drop_path_rate=0.0, norm_cfg=dict(eps=1e-5)),
        bbox_head=dict(num_classes=80, loss_cls=dict(loss_weight=1.0)),
        test_cfg=dict(score_thr=0.05, nms=dict(iou_threshold=0.5), max_per_img=100),
        data_preprocessor=dict(mean=[0, 0, 0], std=[255, 255, 255], pad_size_divisor=32),
    ),
    optim_wrapper=dict(
        optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=1e-4),
        clip_grad=dict(max_norm=35, norm_type=2),
        paramwise_cfg=dict(custom_keys={'backbone.conv1': dict(lr_mult=0.1)}),
    ),
    param_scheduler=[
        dict(type='LinearLR', start_factor=0.001, begin=0, end=500),
        dict(type='MultiStepLR', milestones=[8, 11], gamma=0.1),
    ],
    train_cfg=dict(max_epochs=12, val_interval=1),
    randomness=dict(seed=None),
    auto_scale_lr=dict(base_batch_size=16),
    default_hooks=dict(logger=dict(interval=50), checkpoint=dict(interval=-1, max_keep_ckpts=3)),
    custom_hooks=[dict(type='EMAHook', momentum=0.0002), dict(type='OwnHook', momentum=7)],
    log_processor=dict(window_size=50),
    train_dataloader=LOADER,
    val_dataloader=LOADER,
    max_epochs=0,  # a note of the config's own
)

LR, MOMENTUM = 'optim_wrapper.optimizer.lr', 'optim_wrapper.optimizer.momentum'
DECAY, CLIP = 'optim_wrapper.optimizer.weight_decay', 'optim_wrapper.clip_grad.max_norm'
ABOVE_0 = 'give a number above 0, at most 1000 (learning rate)'
BATCH, WORKERS = 'train_dataloader.batch_size', 'train_dataloader.num_workers'
IMAGES = 'give a whole number from 1 to 65536 (images of a batch, for each GPU)'
EPOCHS, VAL = 'train_cfg.max_epochs', 'train_cfg.val_interval'
OF_EPOCHS = 'give a whole number from 1 to 1000000 (epochs of the training)'
STEPS = 'give a whole number from 1 to 1000000000'
SEED, OF_SEED = 'randomness.seed', 'give a whole number from 0 to 4294967295, or None (seed of'
SCALE = 'train_dataloader.dataset.dataset.pipeline.1.scale'
PIXELS = 'give 1 or 2 whole numbers from 1 to 100000, or None (image size in pixels)'
WIDTH, DEPTHS = 'model.backbone.arch.width_factor', 'model.backbone.arch.depths'
OF_WIDTH = 'give a number from 0.015625 to 64 (channels, relative to TResNet-M)'
BELOW_1 = 'give a number from 0, below 1'
BAD = [  # key, what is typed, the value as the line has it, what the line goes on with
    (LR, '-1', '-1', ABOVE_0),
    (LR, '0', '0', ABOVE_0),
    (LR, 'fast', "'fast'", ABOVE_0),
    (LR, 'nan', 'nan', ABOVE_0),
    (LR, '1e30', '1e+30', ABOVE_0),
    (LR, 'None', 'None', ABOVE_0),
    (LR, '[0.1]', '[0.1]', ABOVE_0),
    (LR, 'True', 'True', ABOVE_0),
    (MOMENTUM, '1', '1', BELOW_1),
    (MOMENTUM, '-0.1', '-0.1', BELOW_1),
    (DECAY, '-1e-4', '-0.0001', 'give a number from 0 to 10 (weight decay)'),
    (DECAY, 'nan', 'nan', 'give a number from 0 to 10 (weight decay)'),
    (CLIP, '-35', '-35', 'give a number above 0 (norm that gradients are clipped to)'),
    (CLIP, '0', '0', 'give a number above 0'),
    ('optim_wrapper.clip_grad.norm_type', 'max', "'max'", 'give a number above 0, or inf'),
    ('optim_wrapper.dtype', 'banana', "'banana'", 'give float16 or bfloat16 or float32 or'),
    ('optim_wrapper.accumulative_counts', '0', '0', 'give a whole number from 1 to 1000000'),
    ('optim_wrapper.optimizer.betas', '0.9,1.0', '[0.9, 1.0]', 'give 2 numbers from 0, below 1'),
    ('optim_wrapper.paramwise_cfg.bias_lr_mult', '-1', '-1', 'give a number from 0 to 1000000'),
    (BATCH, '0', '0', IMAGES),
    (BATCH, '-1', '-1', IMAGES),
    (BATCH, '2.5', '2.5', IMAGES),
    (BATCH, '1000000000', '1000000000', IMAGES),
    (BATCH, 'None', 'None', IMAGES),
    ('val_dataloader.batch_size', 'all', "'all'", IMAGES),
    (WORKERS, '-1', '-1', 'give a whole number from 0 to 1024'),
    (WORKERS, '1.5', '1.5', 'give a whole number from 0 to 1024'),
    ('train_dataloader.prefetch_factor', '0', '0', 'give a whole number from 1 to 1024, or None'),
    (EPOCHS, '-1', '-1', OF_EPOCHS),
    (EPOCHS, '0', '0', OF_EPOCHS),
    (EPOCHS, '1.5', '1.5', OF_EPOCHS),
    (EPOCHS, 'nan', 'nan', OF_EPOCHS),
    (EPOCHS, '1e30', '1e+30', OF_EPOCHS),
    ('train_cfg.max_iters', '0', '0', STEPS),
    (VAL, '0', '0', STEPS),
    (VAL, 'x', "'x'", STEPS),
    (SEED, '-1', '-1', OF_SEED),
    (SEED, '4294967296', '4294967296', OF_SEED),
    (SEED, '1.5', '1.5', OF_SEED),
    (SCALE, '0', '0', PIXELS),
    (SCALE, '(-1333,800)', '(-1333, 800)', PIXELS),
    (SCALE, '(1000000000,800)', '(1000000000, 800)', PIXELS),
    (SCALE, 'large', "'large'", PIXELS),
    (SCALE, '(1333,800,3)', '(1333, 800, 3)', PIXELS),
    ('train_dataloader.dataset.dataset.pipeline.2.prob', '2', '2', 'give numbers from 0 to 1'),
    ('train_dataloader.dataset.dataset.pipeline.3.scales', '[(0,640)]', '[(0, 640)]',
     'give whole numbers from 1 to 100000'),
    ('default_hooks.checkpoint.interval', '0', '0', STEPS + ', or -1'),
    ('default_hooks.checkpoint.max_keep_ckpts', '0', '0', 'give a whole number from 1 to'),
    ('default_hooks.logger.interval', '0', '0', STEPS),
    ('log_processor.window_size', '0', '0', STEPS + ', or epoch, or global'),
    ('custom_hooks.0.momentum', '1.5', '1.5', 'give a number above 0, below 1 (of the averaged'),
    ('auto_scale_lr.base_batch_size', '0', '0', 'give a whole number from 1'),
    ('param_scheduler.0.begin', '-1', '-1', 'give a number from 0 to 1000000000 (first'),
    ('param_scheduler.0.end', '0', '0', 'give a number above 0, at most 1000000000, or inf'),
    ('param_scheduler.0.start_factor', '2', '2', 'give a number above 0, at most 1'),
    ('param_scheduler.1.milestones', '[8,-1]', '[8, -1]', 'give numbers from 0'),
    ('param_scheduler.1.gamma', '0', '0', 'give a number above 0, at most 10'),
    (WIDTH, '1000000', '1000000', OF_WIDTH),
    (WIDTH, '0', '0', OF_WIDTH),
    (DEPTHS, '[1,2,3]', '[1, 2, 3]', 'give 4 whole numbers from 1 to 1000 (blocks of the'),
    (DEPTHS, '[1,1,0,1]', '[1, 1, 0, 1]', 'give 4 whole numbers from 1 to 1000'),
    ('model.backbone.drop_path_rate', '1', '1', BELOW_1),
    ('model.backbone.norm_cfg.eps', '-1', '-1', 'give a number from 0'),
    ('model.bbox_head.num_classes', '-1', '-1', 'give a whole number from 1'),
    ('model.bbox_head.loss_cls.loss_weight', '-1', '-1', 'give numbers from 0 to 1000000'),
    ('model.test_cfg.score_thr', '1.5', '1.5', 'give a number from 0 to 1 (least score)'),
    ('model.test_cfg.nms.iou_threshold', '-1', '-1', 'give a number from 0 to 1'),
    ('model.test_cfg.max_per_img', '2.5', '2.5', 'give a whole number from 1'),
    ('model.data_preprocessor.std', '[255,255,0]', '[255, 255, 0]', 'give numbers above 0'),
    ('model.data_preprocessor.pad_size_divisor', '0', '0', 'give a whole number from 1'),
]  # fmt: skip


def config(**options: str) -> Config:
    cfg = Config(copy.deepcopy(CONFIG))
    edit.override(cfg, {key: parse_value(text) for key, text in options.items()})
    return cfg


@pytest.mark.parametrize(('key', 'typed', 'value', 'said'), BAD)
def test_a_bad_value_is_one_line_with_key_and_range(key, typed, value, said):
    with pytest.raises(InputError) as caught:
        check_values(config(**{key: typed}))
    assert str(caught.value).startswith(f'{key} is {value}: {said}')
    assert '\n' not in str(caught.value)


GOOD = {
    VAL: '57300.0',  # as some configs of MMDetection have it
    CLIP: 'inf',
    SEED: '4294967295',
    SCALE: '[(1333,800),(1333,640)]',
    'param_scheduler.0.end': 'inf',
    'param_scheduler.1.milestones': '[5.5,8]',  # as --epochs leaves them
    'optim_wrapper.dtype': 'bfloat16',
    'log_processor.window_size': 'epoch',
    'model.test_cfg.max_per_img': '-1',
    'param_scheduler': 'dict(type=LinearLR,start_factor=0.1,end=5)',
}


@pytest.mark.parametrize('key', [None, *GOOD])
def test_what_configs_have_is_taken(key):
    check_values(config(**({key: GOOD[key]} if key else {})))


def example_key(row) -> str:
    """A key that a row is for."""
    start, _, names = row.key.rpartition('.')
    return f'{start}.{names.split("|")[0]}'.replace('**', 'a.b').replace('*', 'a')


NUMBERS = [row for row in VALUES if ' | ' not in row.range]


def bounds(row):
    low, high = row.range.removeprefix('whole ')[1:-1].split(', ')
    return float(low), float(high)


def listed(row, value):
    """A value as often as the row wants it."""
    count = next(filter(None, row.counts))
    return value if count == 1 else [value] * count


@pytest.mark.parametrize('row', NUMBERS, ids=lambda row: row.key)
@settings(max_examples=settings.default.max_examples // 6)
@given(data=st.data())
def test_a_range_is_what_it_says(row, data):
    key, (low, high) = example_key(row), bounds(row)
    whole, no_low, no_high = 'whole' in row.range, '(' in row.range, row.range.endswith(')')
    outside = st.sampled_from(['', '1', True, math.nan, -math.inf, b'1', 1j, {}, object()])
    outside |= st.floats(max_value=low, exclude_max=not no_low)
    if whole:
        inside = st.integers(int(low), int(high))
        outside |= st.integers(max_value=int(low) - 1) | st.integers(int(high) + 1)
        outside |= st.floats(low, 1e6).filter(lambda number: not number.is_integer())
    else:
        # A float above all others that are finite stands for infinity.
        top = math.nextafter(high, 0) if no_high else high
        inside = st.floats(math.nextafter(low, math.inf) if no_low else low, top)
        if high < math.inf:
            outside |= st.floats(high, exclude_min=not no_high)
    check_value(key, listed(row, data.draw(inside)))
    bad = listed(row, data.draw(outside.filter(lambda value: value not in row.also)))
    with pytest.raises(InputError) as caught:
        check_value(key, bad)
    assert str(caught.value).startswith(f'{key} is ')
    assert '\n' not in str(caught.value)


OPTIMIZERS = [dict(type='SGD', lr=lr, momentum=m, weight_decay=w) for lr, m, w in (
    (5e-324, 0, 0), (1000, math.nextafter(1, 0), 10),
)]  # fmt: skip


@pytest.mark.parametrize('optimizer', OPTIMIZERS)
def test_optimizers_take_both_ends(optimizer):
    wrapper = dict(
        type='OptimWrapper', optimizer=optimizer, accumulative_counts=10**6,
        clip_grad=dict(max_norm=math.inf),
    )  # fmt: skip
    check_values(dict(optim_wrapper=wrapper))
    built = build_optim_wrapper(nn.Linear(1, 1), copy.deepcopy(wrapper))
    for scheduler in (
        dict(type='LinearLR', start_factor=1, begin=0, end=10**9),
        dict(type='MultiStepLR', milestones=[0, 10**9], gamma=10, end=math.inf),
    ):
        check_values(dict(param_scheduler=[scheduler]))
        PARAM_SCHEDULERS.build(scheduler, default_args=dict(optimizer=built))


@pytest.mark.parametrize(('width', 'channels'), [(1 / 64, (1, 32)), (64, (4096, 131072))])
def test_the_backbone_takes_both_ends(width, channels):
    with torch.device('meta'):
        built = TResNet(arch=dict(width_factor=width, depths=(1, 1, 1, 1)), drop_path_rate=0.999)
    assert (built.conv1.conv.out_channels, built.out_channels[-1]) == channels


@pytest.mark.parametrize('momentum', [5e-324, math.nextafter(1, 0)])
def test_hooks_take_both_ends(momentum):
    parts = [dict(type='EMAHook', momentum=momentum), dict(type='CheckpointHook', interval=10**9)]
    check_values(dict(custom_hooks=parts))
    for part in parts:
        HOOKS.build(part)


def test_the_reference_page_has_every_row():
    page = values.markdown()
    assert page.count('\n') == len(VALUES) + 2
    assert '| `optim_wrapper.**.lr` | learning rate | a number above 0, at most 1000 |' in page


def test_an_options_help_comes_from_the_table():
    assert (
        values.describe(BATCH) == 'images of a batch, for each GPU: a whole number from 1 to 65536'
    )
