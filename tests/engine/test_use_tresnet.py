"""use_tresnet: the configs of configs/reuse/ by a function, and what it refuses."""

import copy
from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config

from tresnet_det.engine import reuse
from tresnet_det.engine.reuse import use_tresnet
from tresnet_det.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
REUSE = sorted((ROOT / 'configs' / 'reuse').glob('*.py'))
TINY = dict(depths=(1, 1, 1, 1), width_factor=0.25)


def config(backbone=None, **others):
    """A small detector's config on ResNet-18."""
    resnet = dict(
        type='ResNet',
        depth=18,
        frozen_stages=1,
        norm_cfg=dict(type='BN', requires_grad=True),
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet18'),
    )
    model = dict(
        type='RetinaNet',
        data_preprocessor=dict(type='DetDataPreprocessor', mean=[1, 2, 3], std=[4, 5, 6]),
        backbone=resnet | (backbone or {}),
        neck=dict(type='FPN', in_channels=[64, 128, 256, 512], out_channels=16, num_outs=4),
    )
    optim = dict(optimizer=dict(type='SGD', lr=0.1, weight_decay=1e-4))
    return Config(dict(dict(model=model, optim_wrapper=optim), **others))


def with_model(**changes):
    cfg = config()
    for key, value in changes.items():
        cfg.model[key] = value  # update() would merge
    return cfg


@pytest.fixture(scope='module', autouse=True)
def _measure_once():
    """Most configs have the same backbone, which is built and measured once."""
    measured, probe = {}, reuse._probe

    def remembered(backbone):
        key = repr(backbone)
        if key not in measured:
            measured[key] = probe(backbone)
        return measured[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reuse, '_probe', remembered)
        yield


@pytest.mark.parametrize('path', REUSE, ids=[p.stem.removesuffix('_tresnet_m') for p in REUSE])
def test_it_gives_the_config_of_the_file(path, tmp_path):
    (line,) = (line for line in path.read_text().splitlines() if line.startswith('_base_'))
    (tmp_path / 'base.py').write_text(line)
    base = Config.fromfile(tmp_path / 'base.py')
    before = copy.deepcopy(base.to_dict())
    assert use_tresnet(base).to_dict() == Config.fromfile(path).to_dict()
    assert base.to_dict() == before


def test_another_arch_brings_its_channels_and_its_weights():
    model = use_tresnet(config(), 'xl').model
    assert model.neck.in_channels == [83, 166, 1328, 2656]
    assert model.backbone.init_cfg.checkpoint == 'timm://tresnet_xl.miil_in1k'
    assert model.backbone.frozen_stages == 1


def test_from_scratch_everything_learns_and_weights_of_ones_own_keep_what_was_frozen():
    frozen = dict(norm_cfg=dict(type='BN', requires_grad=False), with_cp=True)
    model = use_tresnet(config(frozen), TINY).model
    assert model.backbone == dict(type='TResNet', arch=TINY, with_cp=True)
    assert model.neck.in_channels == [16, 32, 256, 512]
    weights = dict(type='Pretrained', checkpoint='mine.pth')
    cfg = use_tresnet(config(frozen), TINY, weights)
    norm = dict(type='InPlaceABN', requires_grad=False)
    kept = dict(frozen_stages=1, norm_eval=True, norm_cfg=norm, with_cp=True, init_cfg=weights)
    assert cfg.model.backbone == dict(type='TResNet', arch=TINY, **kept)
    assert 'paramwise_cfg' not in cfg.optim_wrapper  # there is nothing to spare the decay


def test_the_result_builds_and_its_neck_takes_what_the_backbone_gives():
    model = use_tresnet(config(), TINY).model
    backbone, neck = MODELS.build(model.backbone), MODELS.build(model.neck)
    features = neck(backbone(torch.rand(2, 3, 64, 64)))
    assert [f.shape[1:] for f in features] == [(16, s, s) for s in (16, 8, 4, 2)]


def test_it_draws_no_random_number():
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    use_tresnet(config(dict(deep_stem=True)), TINY)  # which no other test has measured
    assert torch.equal(torch.rand(1), expected)


RESNET, FPN = config().model.backbone, config().model.neck
DARKNET = dict(type='CSPDarknet', widen_factor=0.125, out_indices=(1, 3))  # strides 4, 16
SECOND = dict(type='DyHead', in_channels=16, out_channels=16, num_blocks=1)
DILATED = dict(type='DilatedEncoder', in_channels=512, out_channels=16, block_mid_channels=8,
               num_residual_blocks=1)  # fmt: skip
# It decodes the pixels itself.
HEAD = dict(type='Mask2FormerHead', in_channels=[64, 128, 256, 512], feat_channels=16)


@pytest.mark.parametrize(
    ('changes', 'out_indices', 'channels'),
    [
        (dict(backbone=DARKNET, neck=dict(FPN, in_channels=[16, 64])), (0, 2), [16, 256]),
        (dict(neck=[FPN, SECOND]), None, [16, 32, 256, 512]),
        (dict(backbone=dict(RESNET, out_indices=(3,)), neck=DILATED), (3,), 512),
        (dict(neck=None, panoptic_head=HEAD), None, [16, 32, 256, 512]),
    ],
    ids=['outputs matched by stride', 'the first of several necks', 'one output', 'a head'],
)
def test_channels_follow_the_outputs(changes, out_indices, channels):
    model = use_tresnet(with_model(**changes), TINY).model
    assert model.backbone.get('out_indices') == out_indices
    neck = model.panoptic_head if model.neck is None else model.neck
    if isinstance(neck, list):
        neck, second = neck
        assert second == SECOND
    assert neck.in_channels == channels


def test_shared_statistics_stay_shared():
    synchronised = config(dict(norm_cfg=dict(type='SyncBN')))
    hooked = config(custom_hooks=[dict(type='SyncNormHook')])
    for cfg in (synchronised, hooked, use_tresnet(synchronised, TINY)):
        norm = use_tresnet(cfg, TINY).model.backbone.norm_cfg
        assert norm == dict(type='InPlaceABN', sync=True)


def test_imports_are_added_and_a_detectors_checkpoint_is_dropped():
    mine = dict(imports=['mine'], allow_failed_imports=True)
    optim = dict(optimizer=dict(type='Adam', lr=0.1))  # without a weight decay
    base = config(custom_imports=mine, load_from='retinanet_r18.pth', optim_wrapper=optim)
    cfg = use_tresnet(base, TINY)
    assert cfg.optim_wrapper == base.optim_wrapper
    assert cfg.custom_imports == dict(imports=['mine', 'tresnet_det'], allow_failed_imports=True)
    assert cfg.load_from is None


@pytest.mark.parametrize(
    ('cfg', 'message'),
    [
        (Config(dict(train_cfg={})), 'no model.backbone'),
        (with_model(neck=None), 'the model has no neck'),
        (with_model(neck=dict(type='SSDNeck', in_channels=[64])), 'model.neck is a SSDNeck.*FPN'),
        (with_model(neck=dict(type='FPN', in_channels=[64, 128])),
         r'model.neck.in_channels is \[64, 128\], but the backbone gives \[64, 128, 256, 512\]'),
        (config(dict(strides=(1, 2, 2, 1))), r'ResNet has outputs at strides \[4, 8, 16, 16\]'),
        (config(dict(type='NoNet')), 'model.backbone NoNet: '),
        (config(dict(depht=18)), 'depht'),
    ],
)  # fmt: skip
def test_what_it_cannot_replace_is_refused_in_one_line(cfg, message):
    with pytest.raises(InputError, match=message) as caught:
        use_tresnet(cfg, TINY)
    assert 'Traceback' not in str(caught.value)


def test_an_unknown_arch_is_named():
    with pytest.raises(InputError, match="unknown arch 's'"):
        use_tresnet(config(), 's')
