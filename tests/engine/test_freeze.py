"""``--freeze``: what is frozen stays as it is to the bit, and the optimizer does not know it."""

import copy

import pytest

from tresnet_det.engine import building, settings
from tresnet_det.engine import config as edit
from tresnet_det.errors import InputError

RESNET = dict(
    _delete_=True, type='mmdet.ResNet', depth=18, base_channels=8, out_indices=(1, 2, 3),
    norm_cfg=dict(type='BN', requires_grad=True), norm_eval=False,
)  # fmt: skip
# What `stem` and each stage are called, and in which stage all of the backbone ends.
TRESNET_PARTS = ('conv1', 'layer1', 'layer2', 'layer3', 'layer4')
RESNET_PARTS = ('conv1 bn1', 'layer1', 'layer2', 'layer3', 'layer4')


@pytest.mark.parametrize(
    ('task', 'stages', 'backbone'),
    [
        ('detection', 2, None),
        ('detection', 1, RESNET),
        ('multilabel', 'backbone', None),
        ('classification', 3, None),
    ],
)
def test_nothing_of_it_changes_and_the_rest_learns(task, stages, backbone, tiny_config, tmp_path):
    path = tiny_config(task)
    cfg = edit.load_config(path)
    if backbone:
        cfg.merge_from_dict(dict(model=dict(backbone=copy.deepcopy(backbone))))
        cfg.model.neck.in_channels = [16, 32, 64]
        cfg.optim_wrapper.paramwise_cfg = None  # with which mmengine optimizes all there is
    cfg.work_dir, cfg.experiment_name = str(tmp_path / 'work'), str(tmp_path)
    parts = RESNET_PARTS if backbone else TRESNET_PARTS
    frozen = parts if stages == 'backbone' else parts[: stages + 1]
    frozen = tuple(f'backbone.{name}.' for part in frozen for name in part.split())
    cfg.train_dataloader.batch_size = 2
    edit.use_this_machine(cfg)
    building.count_classes(cfg)
    line = settings.apply(cfg, dict(freeze=stages, img_size=(48, 48)))[-1]
    assert line == f'--freeze: frozen_stages={4 if stages == "backbone" else stages} of ' + (
        'ResNet' if backbone else 'TResNet'
    )
    runner = building.build_runner(cfg)
    model = runner.model
    buffers = {name for name, _ in model.named_buffers()}
    total = sum(w.numel() for name, w in model.state_dict().items() if name not in buffers)
    fixed = sum(w.numel() for n, w in model.named_parameters() if n.startswith(frozen))
    said = building.count_parameters(runner, stages == 'backbone')
    assert said == f'trainable parameters: {total - fixed:,} of {total:,}'

    before = copy.deepcopy(model.state_dict())
    wrapper = runner.build_optim_wrapper(cfg.optim_wrapper)
    loader = runner.build_dataloader(cfg.train_dataloader)
    batch = next(iter(loader))
    for _ in range(20):
        model.train()
        model.train_step(copy.deepcopy(batch), wrapper)
    changed = {key for key, value in model.state_dict().items() if not value.equal(before[key])}
    assert not [key for key in changed if key.startswith(frozen)]
    learning = {key for key in before if key.endswith('weight') and not key.startswith(frozen)}
    assert len(learning - changed) <= len(learning) // 10
    names = {id(weight): name for name, weight in model.named_parameters()}
    held = {names[id(p)] for group in wrapper.optimizer.param_groups for p in group['params']}
    assert held == {name for name in names.values() if not name.startswith(frozen)}
    assert {names[id(weight)] for weight in wrapper.optimizer.state} <= held


def test_what_cannot_be_frozen_is_said(fcos, tiny_config, tmp_path):
    fcos.model.backbone = dict(type='mmdet.HRNet')
    with pytest.raises(InputError, match='--freeze: HRNet has no frozen_stages'):
        settings.freeze(fcos, 1)
    cfg = edit.load_config(tiny_config('classification'))
    cfg.work_dir = str(tmp_path / 'work')
    building.count_classes(cfg)
    with pytest.raises(InputError, match=r"--freeze backbone: TResNet does not freeze 'backbone\."):
        building.count_parameters(building.build_runner(cfg), all_frozen=True)
