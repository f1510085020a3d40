"""BackboneSpeedHook: channels_last and torch.compile change no result, checkpoint or message."""

import copy

import pytest
import torch
import torch.distributed as dist
from mmengine.model import BaseModel, MMDistributedDataParallel
from torch import nn

from tresnet_det import TResNet
from tresnet_det.engine.backbone_speed import BackboneSpeedHook
from tresnet_det.errors import InputError

EAGER = {'backend': 'aot_eager'}  # everything of torch.compile but the C++ compiler
BOTH = {'channels_last': True, 'compile': EAGER}


class Detector(BaseModel):
    """A backbone and the least of a head; images are points of the runner's dataset."""

    def __init__(self, arch):
        super().__init__()
        self.backbone = TResNet(arch=arch)
        self.head = nn.Linear(self.backbone.out_channels[-1], 1)
        self.layouts = []

    def forward(self, inputs, data_samples=None, mode='loss'):
        scale = torch.stack(list(inputs)).sum(1).to(self.head.weight).view(-1, 1, 1, 1)
        images = scale * torch.linspace(-1, 1, 3 * 64 * 64).view(1, 3, 64, 64).to(scale)
        features = self.backbone(images)[-1]
        self.layouts.append(features.is_contiguous(memory_format=torch.channels_last))
        x = self.head(features.mean((2, 3)))
        return {'loss': x.square().mean()} if mode == 'loss' else list(x)


class Box:
    """As much of a runner as the hook needs."""

    def __init__(self, model):
        self.model = model


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.fixture
def detector(tiny_arch):
    return Detector(tiny_arch)


def changed(model, **settings):
    BackboneSpeedHook(**settings).before_run(Box(model))
    return model


def outputs_and_gradients(backbone, x):
    backbone.zero_grad()
    x = x.clone().requires_grad_()
    outputs = backbone(x)
    sum((y * torch.linspace(0, 1, y.numel()).to(y).view_as(y)).sum() for y in outputs).backward()
    return [*outputs, x.grad, *[p.grad for p in backbone.parameters()], *backbone.buffers()]


@pytest.mark.parametrize('training', [True, False])
def test_outputs_gradients_and_statistics_are_those_of_the_plain_backbone(detector, training):
    detector.double().train(training)
    plain = copy.deepcopy(detector.backbone)
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    expected = outputs_and_gradients(plain, x)
    found = outputs_and_gradients(changed(detector, **BOTH).backbone, x)
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-9)


def test_training_goes_as_without_the_hook(build, tiny_arch, detector):
    both = {}
    for name, more in (('plain', []), ('quick', [{'type': 'BackboneSpeedHook', **BOTH}])):
        model = Detector(tiny_arch)
        model.load_state_dict(detector.state_dict())
        hooks = [{'type': 'EMAHook', 'momentum': 0.5}, *more]
        both[name] = runner = build(hooks, model=model.double(), epochs=1)
        runner.train()
    plain, quick = (
        torch.load(f'{runner.work_dir}/epoch_1.pth', weights_only=False) for runner in both.values()
    )
    for part in ('state_dict', 'ema_state_dict'):
        assert list(quick[part]) == list(plain[part])
        for key, value in quick[part].items():
            assert value.is_contiguous()
            torch.testing.assert_close(value, plain[part][key], rtol=1e-6, atol=1e-8)
    assert both['quick'].model.backbone._compiled_call_impl is not None
    assert (set(both['plain'].model.layouts), set(both['quick'].model.layouts)) == ({False}, {True})
    before = detector.state_dict()['head.weight']
    assert not torch.allclose(quick['state_dict']['head.weight'].float(), before)


def test_test_and_checkpoint_loading_work_with_it(build, detector, tiny_arch, tmp_path):
    path = tmp_path / 'plain.pth'
    torch.save({'state_dict': detector.state_dict(), 'meta': {}}, path)
    model = Detector(tiny_arch)
    hooks = [{'type': 'BackboneSpeedHook', **BOTH}]
    runner = build(hooks, model=model, evaluate_only=True, load_from=str(path))
    assert runner.test() == {'coco/bbox_mAP': 0.8}
    for key, value in model.state_dict().items():
        assert torch.equal(value, detector.state_dict()[key])
    assert set(model.layouts) == {True}


def test_wrapped_model_is_changed_inside(detector, tmp_path):
    dist.init_process_group('gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1)
    try:
        wrapped = changed(MMDistributedDataParallel(detector), channels_last=True)
        wrapped([torch.full((2,), 0.1 * n) for n in range(1, 4)])['loss'].backward()
        assert detector.layouts == [True]
    finally:
        dist.destroy_process_group()


def test_a_model_without_a_backbone_and_a_setting_that_is_no_dict_are_refused(toy):
    with pytest.raises(InputError, match='^BackboneSpeedHook: Toy has no backbone: leave'):
        changed(toy(), channels_last=True)
    with pytest.raises(InputError, match="compile='max-autotune' is not True, False or a dict"):
        BackboneSpeedHook(compile='max-autotune')
