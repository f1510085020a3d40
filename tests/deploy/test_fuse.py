"""Norms folded into convolutions: the same outputs, and an original that stays as it is."""

import pytest
import torch
from torch import nn

from tresnet_det import TResNet
from tresnet_det.backbone.norms import iterate_norms
from tresnet_det.deploy import fuse_norms


@pytest.mark.parametrize('arch', ['m', 'v2_l'])
@pytest.mark.parametrize('norm', ['InPlaceABN', 'BN'])
def test_outputs_are_those_of_the_model_in_evaluation_mode(arch, norm, tiny_arch, randomize_norms):
    arch = dict(TResNet.arch_settings[arch], **tiny_arch)
    model = randomize_norms(TResNet(arch=arch, norm_cfg=dict(type=norm))).eval().double()
    fused = fuse_norms(model)
    x = torch.rand(2, 3, 64, 64, dtype=torch.double)
    with torch.no_grad():
        for ours, expected in zip(fused(x), model(x), strict=True):
            torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12 * expected.abs().max())
    assert not list(iterate_norms(fused))
    twice = fuse_norms(fused)  # a folded model is copied as it is
    assert twice.conv1.conv.weight.data_ptr() != fused.conv1.conv.weight.data_ptr()
    torch.testing.assert_close(twice.state_dict(), fused.state_dict(), rtol=0, atol=0)


def test_the_original_trains_on_and_shares_nothing(tiny_arch, randomize_norms):
    model = randomize_norms(TResNet(arch=tiny_arch)).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fused = fuse_norms(model)
    for parameter in fused.parameters():
        parameter.zero_()
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert model.training
    assert not fused.training
    assert not any(p.requires_grad for p in fused.parameters())
    sum(y.sum() for y in model(torch.rand(2, 3, 64, 64))).backward()


def test_convolutions_that_share_a_filter_but_not_a_norm_are_told_apart(randomize_norms):
    # As in the levels of RTMDet's head, which share convolutions; one level has no norm at all.
    conv = nn.Conv2d(4, 4, 3, bias=False)
    levels = [nn.Sequential(conv, nn.BatchNorm2d(4)) for _ in range(2)]
    model = randomize_norms(nn.ModuleList([*levels, nn.Sequential(conv)])).eval()
    fused = fuse_norms(model)
    assert not list(iterate_norms(fused))
    x = torch.rand(1, 4, 8, 8)
    with torch.no_grad():
        for ours, level in zip(fused, model, strict=True):
            torch.testing.assert_close(ours(x), level(x))


def test_a_norm_without_statistics_is_refused(tiny_arch):
    norm_cfg = dict(type='BN', track_running_stats=False)
    with pytest.raises(ValueError, match='track_running_stats=False cannot be folded'):
        fuse_norms(TResNet(arch=tiny_arch, norm_cfg=norm_cfg))
