"""The model cards (metafile.yml) against the configs that they describe."""

from pathlib import Path

import pytest
import torch
import yaml
from mmdet.registry import MODELS
from mmengine.registry import DefaultScope
from parsed_configs import load

from tresnet_det.checkpoints.img_norm import read_img_norm
from tresnet_det.profiling.counts import count_macs, count_parameters, kept_bytes

ROOT = Path(__file__).resolve().parents[2]
INDEX = yaml.safe_load((ROOT / 'model-index.yml').read_text())['Import']
FILES = [yaml.safe_load((ROOT / name).read_text()) for name in INDEX]
CARDS = {card['Config']: card for file in FILES for card in file['Models']}
# One refinement removed at a time, and classes that are the user's: no model to publish.
WITHOUT_CARD = ('configs/ablation/', 'configs/transfer/tresnet_m_folders.py')


def build(config):
    with DefaultScope.overwrite_default_scope('mmdet'), torch.device('meta'):
        return MODELS.build(load(config.removeprefix('configs/')).model)


def test_every_config_has_one_card_and_every_card_a_config():
    configs = {str(path.relative_to(ROOT)) for path in (ROOT / 'configs').rglob('*.py')}
    expected = {
        name for name in configs if '_base_' not in name and not name.startswith(WITHOUT_CARD)
    }
    assert CARDS.keys() == expected
    assert len(CARDS) == sum(len(file['Models']) for file in FILES)
    for config, card in CARDS.items():
        assert config.endswith(f'/{card["Name"]}.py')
    assert {card['In Collection'] for card in CARDS.values()} == {
        collection['Name'] for file in FILES for collection in file.get('Collections', [])
    }


@pytest.mark.parametrize('config', CARDS)
def test_a_card_says_what_the_model_is(config):
    told = CARDS[config]['Metadata']
    model = build(config)
    found = {'Parameters': count_parameters(model)}
    if 'Input Size' in told:
        x = torch.rand(1, 3, *told['Input Size'], device='meta')
        forward = getattr(model, '_forward', model)  # a detector's network alone
        with torch.no_grad():
            model.eval()
            found['FLOPs'] = count_macs(lambda: forward(x))
        model.train()
        found['Kept Bytes'] = kept_bytes(
            lambda: forward(x), [*model.parameters(), *model.buffers()]
        )
    assert found == {key: told[key] for key in found}


@pytest.mark.parametrize('config', CARDS)
def test_a_card_says_how_the_config_trains(config):
    told, cfg = CARDS[config]['Metadata'], load(config.removeprefix('configs/'))
    length = {'Epochs': 'max_epochs', 'Iterations': 'max_iters'}
    assert [told[key] for key in length if key in told] == [
        cfg.train_cfg[name] for name in length.values() if name in cfg.train_cfg
    ]
    arch = cfg.model.backbone.get('arch')
    assert told['Backbone'] == (f'TResNet-{arch.upper()}' if arch else 'ResNet-50')
    preprocessor = cfg.model.get('data_preprocessor') or cfg.data_preprocessor
    with DefaultScope.overwrite_default_scope('mmdet'):
        img_norm = read_img_norm(MODELS.build(preprocessor))
    unit_range = img_norm == dict(mean=[0.0] * 3, std=[255.0] * 3, bgr_to_rgb=True)
    assert img_norm['bgr_to_rgb']
    assert (told['Input'] == 'RGB in [0, 1]') == unit_range


def test_a_result_is_measured_here_or_its_source_is_named():
    for card in CARDS.values():
        for result in card['Results']:
            (own,) = result['Metrics'].values()
            if own == 'not reproduced':
                assert 'Measured' not in result
            else:
                assert (ROOT / result['Measured']).is_file()
            if 'Published' in result:
                assert result['Published']['Source'].startswith('https://arxiv.org/abs/')
