"""MLDecoderHead: timm's logits, published weights, word queries."""

import copy
import re

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from timm.layers.ml_decoder import MLDecoder

from tresnet_det import MLDecoderHead
from tresnet_det.checkpoints import load_head_weights
from tresnet_det.errors import InputError, MissingFileError


def small(num_classes=10, **kwargs):
    return MLDecoderHead(24, num_classes, **dict(dict(embed_dims=16), **kwargs))


def timms(num_classes, num_groups, embed_dims, in_channels):
    """timm's ML-Decoder, all parameters random, its decoder's loop over one layer fixed.

    torch's own loop asks for the self-attention that this layer has not (since torch 2.1).
    """
    model = randomize(MLDecoder(num_classes, num_groups, embed_dims, in_channels)).eval()
    (layer,) = model.decoder.layers
    assert model.decoder.norm is None
    model.decoder.forward = lambda queries, memory: layer(queries, memory)
    return model


def randomize(module):
    """Draw every parameter again, so that no bias is zero and no norm the identity."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return module


def published(theirs, nesting):
    """timm's keys as the authors nest them: all under `decoder`, or the layer alone, or deeper."""
    keys = {k: re.sub(r'^decoder\.', '', k) for k in theirs.state_dict()}
    prefix = {'authors': 'decoder.', 'deeper': 'decoder.decoder.'}.get(nesting)
    if prefix is None:
        return theirs.state_dict()
    return {prefix + short: theirs.state_dict()[k] for k, short in keys.items()}


@pytest.mark.parametrize(
    ('num_classes', 'num_groups'),
    [(150, -1), (1003, 100), (7, 3), (1, -1), (5, 100)],
)
def test_logits_are_timms_with_the_same_weights(num_classes, num_groups):
    theirs = timms(num_classes, num_groups, 32, 24)
    ours = MLDecoderHead(24, num_classes, num_groups, embed_dims=32).eval()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 24, 3, 5)
    with torch.no_grad():
        expected = theirs(x)
        assert (ours(x) - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert ours(x).shape == (2, num_classes)


@pytest.mark.parametrize('nesting', ['timm', 'authors', 'deeper'])
@pytest.mark.parametrize('by', ['load_state_dict', 'init_cfg'])
def test_published_key_names_are_read(nesting, by, tmp_path):
    theirs = timms(7, 3, 16, 24)
    weights = published(theirs, nesting)
    path = tmp_path / 'ml_decoder.pth'
    torch.save({'model': {f'head.{k}': v for k, v in weights.items()}}, path)
    ours = small(7, num_groups=3, init_cfg=dict(type='Pretrained', checkpoint=str(path))).eval()
    if by == 'load_state_dict':
        before = dict(weights)
        ours.load_state_dict(weights)
        assert weights.keys() == before.keys()
    else:
        ours.init_weights()
    x = torch.randn(2, 24, 4, 4)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)


# As published for MS-COCO, TResNet-L: all keys of the head.
OFFICIAL_KEYS = {
    'decoder.embed_standart.weight': (768, 2432),
    'decoder.embed_standart.bias': (768,),
    'decoder.query_embed.weight': (80, 768),
    'decoder.layers.0.multihead_attn.in_proj_weight': (2304, 768),
    'decoder.layers.0.multihead_attn.in_proj_bias': (2304,),
    'decoder.layers.0.multihead_attn.out_proj.weight': (768, 768),
    'decoder.layers.0.multihead_attn.out_proj.bias': (768,),
    'decoder.layers.0.linear1.weight': (2048, 768),
    'decoder.layers.0.linear1.bias': (2048,),
    'decoder.layers.0.linear2.weight': (768, 2048),
    'decoder.layers.0.linear2.bias': (768,),
    **{f'decoder.layers.0.norm{i}.{k}': (768,) for i in (1, 2, 3) for k in ('weight', 'bias')},
    'decoder.duplicate_pooling': (80, 768, 1),
    'decoder.duplicate_pooling_bias': (80,),
}


def test_the_official_head_fits():
    head = MLDecoderHead(2432, num_classes=80)
    weights = {f'head.{k}': torch.full(shape, 0.5) for k, shape in OFFICIAL_KEYS.items()}
    load_head_weights(head, dict(model=weights))
    assert all((value == 0.5).all() for value in head.state_dict().values())


@pytest.mark.parametrize('learn', [False, True])
def test_every_trainable_parameter_gets_a_gradient_and_fixed_queries_stay(learn):
    head = small(7, num_groups=3, learn_queries=learn).train()
    labels = torch.tensor([[1, 0, 0, 1, 0, -1, 0]] * 2)
    head.loss(torch.randn(2, 24, 4, 4), labels)['loss'].backward()
    for name, parameter in head.named_parameters():
        if name == 'query_embed.weight' and not learn:
            assert parameter.grad is None
        else:
            assert torch.isfinite(parameter.grad).all(), name
            assert parameter.grad.abs().sum() > 0, name


def test_dropout_works_in_training_only():
    x = torch.randn(2, 24, 4, 4)
    for dropout, mode, same in ((0.1, True, False), (0.1, False, True), (0.0, True, True)):
        head = small(dropout=dropout).train(mode)
        assert torch.equal(head(x), head(x)) == same


def test_layouts_give_the_same_logits():
    head, x = small().eval(), torch.randn(2, 24, 4, 6)
    torch.testing.assert_close(head(x.to(memory_format=torch.channels_last)), head(x))


def test_autocast_gives_nearly_the_same_scores():
    head, x = randomize(small()).eval(), torch.randn(2, 24, 4, 4)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        scores = head.predict(x)
        loss = head.loss(x, torch.ones(2, 10))['loss']
    assert scores.dtype == loss.dtype == torch.float32
    loss.backward()
    assert all(p.grad.isfinite().all() for p in head.parameters() if p.requires_grad)
    torch.testing.assert_close(scores, head.predict(x), rtol=0, atol=0.02)


@pytest.mark.parametrize('suffix', ['.npy', '.pth', None])
def test_word_vectors_come_from_a_tensor_or_a_file(suffix, tmp_path):
    words = torch.randn(10, 6)
    source = words
    if suffix:
        source = tmp_path / f'words{suffix}'
        if suffix == '.npy':
            np.save(source, words.numpy())
        else:
            torch.save(words, source)
    head = small(query_embeddings=source)
    assert torch.equal(head.word_vectors, words)
    assert head(torch.randn(2, 24, 4, 4)).shape == (2, 10)


def test_word_queries_share_weights_that_serve_other_classes():
    words = torch.randn(10, 6)
    head = randomize(small(query_embeddings=words)).eval()
    assert not [k for k in head.state_dict() if 'word' in k]
    x = torch.randn(2, 24, 4, 4)
    other = small(4, query_embeddings=words[[7, 1, 1, 3]]).eval()
    other.load_state_dict(head.state_dict())
    torch.testing.assert_close(other(x), head(x)[:, [7, 1, 1, 3]])
    other.loss(x, torch.ones(2, 4))['loss'].backward()
    assert all(p.grad.abs().sum() > 0 for p in other.parameters())


def test_the_official_zero_shot_head_is_read():
    head = small(query_embeddings=torch.randn(10, 6))
    source = copy.deepcopy(head).state_dict()
    official = {}
    for key, value in source.items():
        for ours, theirs in (
            ('input_proj', 'decoder.embed_standart'),
            ('query_proj', 'wordvec_proj'),
            ('layer.', 'decoder.layers.0.'),
            ('group_fc.weight', 'decoder.duplicate_pooling'),
            ('group_fc.bias', 'decoder.duplicate_pooling_bias'),
        ):
            key = key.replace(ours, theirs)
        official[f'head.{key}'] = value.T if key == 'decoder.duplicate_pooling' else value
    randomize(head)
    load_head_weights(head, official)
    for key, value in head.state_dict().items():
        assert torch.equal(value, source[key]), key


def test_it_is_built_from_mmdets_registry_with_the_papers_sizes_and_loss():
    head = MODELS.build(dict(type='MLDecoderHead', in_channels=64, num_classes=200))
    assert head.multi_label
    assert head.num_groups == 100
    assert head.layer.linear1.weight.shape == (2048, 768)
    assert head.layer.multihead_attn.num_heads == 8
    assert head.layer.dropout.p == head.layer.multihead_attn.dropout == 0.1


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(num_groups=0), 'num_groups must be at least 1, or -1 for 100, got 0'),
        (dict(embed_dims=12), 'embed_dims must be a multiple of 8, the attention heads, got 12'),
        (dict(dropout=-0.1), 'dropout is -0.1'),
        (dict(query_embeddings=torch.zeros(9, 6)), r'with num_classes=10, got \(9, 6\)'),
        (dict(query_embeddings=torch.zeros(10, 6), num_groups=5), 'leave num_groups'),
        (dict(query_embeddings='none.npy'), 'none.npy: no such file of query_embeddings'),
    ],
)
def test_wrong_arguments_are_named_in_one_line(arguments, message):
    with pytest.raises(InputError, match=message) as caught:
        small(**arguments)
    assert '\n' not in str(caught.value)


def test_files_that_hold_no_word_vectors_are_named(tmp_path):
    (tmp_path / 'words.npy').write_bytes(b'nothing')
    torch.save(dict(words=torch.zeros(10, 6)), tmp_path / 'words.pth')
    with pytest.raises(InputError, match=r'words.npy: not a .npy array or a tensor'):
        small(query_embeddings=tmp_path / 'words.npy')
    with pytest.raises(InputError, match='words.pth: holds a dict, not a tensor'):
        small(query_embeddings=str(tmp_path / 'words.pth'))
    with pytest.raises(MissingFileError):
        small(query_embeddings=tmp_path / 'other.npy')
