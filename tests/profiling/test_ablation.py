import pytest
import torch
from torch import nn

from tresnet_det import TResNet
from tresnet_det.deploy import fuse_norms
from tresnet_det.layers import BlurPool
from tresnet_det.profiling import ablation
from tresnet_det.profiling.counts import kept_bytes_per_image
from tresnet_det.profiling.models import TResNetClassifier


@pytest.fixture(params=['InPlaceABN', 'BN'])
def model(request, tiny_arch):
    backbone = TResNet(arch=tiny_arch, out_indices=(3,), norm_cfg=dict(type=request.param))
    for parameter in backbone.parameters():  # no branch ends in zeros
        nn.init.normal_(parameter, std=0.1)
    return TResNetClassifier(backbone, num_classes=5)


@pytest.mark.parametrize('name', ablation.OPTIMISATIONS_OFF)
def test_a_code_optimisation_off_changes_neither_output_nor_gradient(name, model):
    changed = ablation.OPTIMISATIONS_OFF[name](model)
    x = torch.rand(4, 3, 64, 64)
    for mode in (True, False):
        outputs = [m.train(mode)(x) for m in (model, changed)]
        torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-5)
    for m in (model, changed):
        m.train()(x).square().sum().backward()
    pairs = zip(model.named_parameters(), changed.named_parameters(), strict=True)
    for (key, parameter), (other_key, other) in pairs:
        assert key == other_key
        assert parameter is not other
        torch.testing.assert_close(parameter.grad, other.grad, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize('name', ablation.OPTIMISATIONS_OFF)
def test_it_goes_with_folded_norms(name, model):
    fused = fuse_norms(model)
    changed = ablation.OPTIMISATIONS_OFF[name](fused)
    x = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(fused(x), changed(x), rtol=1e-4, atol=1e-5)


def test_the_plain_blur_keeps_what_the_fused_one_does_not(tiny):
    changed = ablation.without_fused_blur(tiny)
    assert not any(isinstance(m, BlurPool) for m in changed.modules())
    assert any(isinstance(m, BlurPool) for m in tiny.modules())
    assert kept_bytes_per_image(changed, 64) > 1.05 * kept_bytes_per_image(tiny, 64)


def test_nothing_is_in_place_without_in_place(model):
    changed = ablation.without_in_place(model)
    assert not any(getattr(m, 'inplace', False) for m in changed.modules())
    assert type(changed.backbone.layer1[0]).forward is not changed.backbone.layer1[0].forward


def test_refinements_are_those_of_the_configs_and_learn_from_scratch(project_root):
    configs = project_root / 'configs'
    specs = ablation.refinement_specs(configs / 'fcos_tresnet_m.py', configs / 'ablation', size=64)
    assert [spec.name for spec in specs] == [
        'full',
        'no_anti_aliasing',
        'no_basic_blocks',
        'no_inplace_abn',
        'no_space_to_depth',
        'no_squeeze_excite',
    ]
    full = specs[0].build()
    assert all(p.requires_grad for p in full.parameters())
    assert not full.backbone.norm_eval


def test_the_tables_share_the_full_model():
    names = ['full', 'no_stem', 'no_in_place', 'no_fast_pooling']
    tables = ablation.split_tables([{'model': name} for name in names])
    assert [[row['model'] for row in rows] for rows in tables.values()] == [
        ['full', 'no_stem'],
        ['full', 'no_in_place', 'no_fast_pooling'],
    ]
