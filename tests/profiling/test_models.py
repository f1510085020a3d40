"""The names of models that benchmarks take, and what they build."""

import dataclasses

import pytest
import torch
from torch import nn

from tresnet_det.errors import InputError
from tresnet_det.profiling import models
from tresnet_det.profiling.classifiers import ClassifierRun
from tresnet_det.profiling.counts import count_parameters


def test_a_size_behind_the_name_is_its_own():
    assert models.resolve('tresnet_m', 224).size == 224
    spec = models.resolve('tresnet_m@448', 224)
    assert (spec.name, spec.size, spec.is_ours) == ('tresnet_m@448', 448, True)


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('tresnet_n', r"unknown model 'tresnet_n': did you mean tresnet_"),
        ('timm:resnet5O', r'did you mean timm:resnet50'),
        ('torchvision:resnet_50', r'did you mean torchvision:resnet50'),
        ('torchvision:fcos_resnet50_fpn', r'unknown model'),  # a detector
        ('zzz', r'unknown model .* use tresnet_m, .*timm:NAME or torchvision:NAME'),
        ('hub:resnet50', r"no library 'hub'; use tresnet_m"),
        ('tresnet_m@big', r"the size behind @ is a number of pixels, not 'big'"),
        ('tresnet_m@0', r'number of pixels'),
    ],
)
def test_a_wrong_name_is_told_what_comes_close(name, message):
    with pytest.raises(InputError, match=message):
        models.resolve(name, 224)


def test_all_named_tables_resolve_and_tresnet_m_is_the_published_size():
    for name in (*models.PAPER_TABLE, *models.BYTES_TABLE, *models.PUBLISHED_TOP1):
        models.resolve(name, 224)
    with torch.device('meta'):
        model = models.resolve('tresnet_m', 224).build()
    assert count_parameters(model) == 31_389_032


def test_variants_of_ours_are_built_with_their_option():
    with torch.device('meta'):
        backbones = {
            ending: models.resolve(f'tresnet_m_{ending}', 64).build().backbone
            for ending in ('recompute', 'cp', 'triton')
        }
    assert backbones['recompute'].recompute_outputs
    assert backbones['cp'].with_cp
    assert backbones['triton'].conv1.norm.backend == 'triton'
    assert backbones['triton'].layer1[0].se.backend == 'triton'
    assert backbones['triton'].layer2[0].conv1.blur.backend == 'triton'


@pytest.mark.parametrize('name', ['timm:resnet50_folded', 'torchvision:resnet50_folded'])
def test_a_resnet_with_folded_norms_infers_as_the_plain_one(name, settings):
    spec = models.resolve(name, 64)
    run = ClassifierRun(spec, settings)
    assert list(run.workloads()) == ['inference']
    assert any(isinstance(m, nn.BatchNorm2d) for m in run.model.modules())
    for norm in run.model.modules():
        if isinstance(norm, nn.BatchNorm2d):  # no branch starts at zero, no statistics at their own
            nn.init.uniform_(norm.weight, 0.5, 1.0)
            nn.init.uniform_(norm.running_mean, -0.1, 0.1)
    folded = ClassifierRun(dataclasses.replace(spec, build=lambda: run.model), settings)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded._fused.modules())
    with torch.inference_mode():
        torch.testing.assert_close(
            folded._fused(run.images), run.model.eval()(run.images), rtol=1e-3, atol=1e-3
        )


def test_models_that_do_not_fold_have_no_such_name():
    with pytest.raises(InputError, match='unknown model'):
        models.resolve('timm:efficientnet_b1_folded', 64)


def test_the_ablation_is_that_of_the_configs_from_scratch(project_root):
    configs = project_root / 'configs'
    specs = models.ablation_specs(configs / 'fcos_tresnet_m.py', configs / 'ablation', size=64)
    assert [spec.name for spec in specs] == [
        'full',
        'no_anti_aliasing',
        'no_basic_blocks',
        'no_inplace_abn',
        'no_space_to_depth',
        'no_squeeze_excite',
    ]
    with torch.device('meta'):
        full, *others = (spec.build() for spec in specs)
    assert all(p.requires_grad for p in full.parameters())
    assert not full.backbone.norm_eval
    assert count_parameters(others[-1]) < count_parameters(full)
