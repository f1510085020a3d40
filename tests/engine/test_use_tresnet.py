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
    model = use_tresnet(config(), 'v2_l').model
    assert model.neck.in_channels == [256, 512, 1024, 2048]
    assert model.backbone.init_cfg.checkpoint == 'timm://tresnet_v2_l.miil_in21k_ft_in1k'


def test_from_random_weights_everything_learns():
    frozen = dict(norm_cfg=dict(type='BN', requires_grad=False))
    model = use_tresnet(config(frozen), TINY).model
    assert model.backbone == dict(type='TResNet', arch=TINY)
    assert model.neck.in_channels == [16, 32, 256, 512]


def test_weights_of_ones_own_keep_what_was_frozen():
    frozen = dict(norm_cfg=dict(type='BN', requires_grad=False), with_cp=True)
    weights = dict(type='Pretrained', checkpoint='mine.pth')
    cfg = use_tresnet(config(frozen), TINY, weights)
    assert cfg.model.backbone == dict(
        type='TResNet',
        arch=TINY,
        frozen_stages=1,
        norm_eval=True,
        norm_cfg=dict(type='InPlaceABN', requires_grad=False),
        with_cp=True,
        init_cfg=weights,
    )
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


def test_outputs_are_matched_by_stride():
    darknet = dict(type='CSPDarknet', widen_factor=0.125, out_indices=(1, 3))  # strides 4, 16
    neck = dict(type='FPN', in_channels=[16, 64], out_channels=16, num_outs=2)
    model = use_tresnet(with_model(backbone=darknet, neck=neck), TINY).model
    assert model.backbone.out_indices == (0, 2)
    assert model.neck.in_channels == [16, 256]


def test_of_several_necks_the_first_is_changed():
    fpn = config().model.neck
    second = dict(type='DyHead', in_channels=16, out_channels=16, num_blocks=1)
    model = use_tresnet(with_model(neck=[fpn, second]), TINY).model
    assert model.neck[0].in_channels == [16, 32, 256, 512]
    assert model.neck[1] == second


def test_one_output_is_one_number():
    backbone = config().model.backbone | dict(out_indices=(3,))
    neck = dict(type='DilatedEncoder', in_channels=512, out_channels=16, block_mid_channels=8,
                num_residual_blocks=1)  # fmt: skip
    model = use_tresnet(with_model(backbone=backbone, neck=neck), TINY).model
    assert (model.backbone.out_indices, model.neck.in_channels) == ((3,), 512)


def test_a_head_that_decodes_pixels_itself_is_changed_like_a_neck():
    head = dict(type='Mask2FormerHead', in_channels=[64, 128, 256, 512], feat_channels=16)
    model = use_tresnet(with_model(neck=None, panoptic_head=head), TINY).model
    assert model.panoptic_head.in_channels == [16, 32, 256, 512]


def test_shared_statistics_stay_shared():
    synchronised = config(dict(norm_cfg=dict(type='SyncBN')))
    hooked = config(custom_hooks=[dict(type='SyncNormHook')])
    for cfg in (synchronised, hooked, use_tresnet(synchronised, TINY)):
        norm = use_tresnet(cfg, TINY).model.backbone.norm_cfg
        assert norm == dict(type='InPlaceABN', sync=True)


def test_an_optimiser_without_weight_decay_is_left_alone():
    cfg = config(optim_wrapper=dict(optimizer=dict(type='Adam', lr=0.1)))
    assert use_tresnet(cfg, TINY).optim_wrapper == cfg.optim_wrapper


def test_imports_are_added_and_a_detectors_checkpoint_is_dropped():
    mine = dict(imports=['mine'], allow_failed_imports=True)
    cfg = use_tresnet(config(custom_imports=mine, load_from='retinanet_r18.pth'), TINY)
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
