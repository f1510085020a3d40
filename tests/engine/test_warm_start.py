"""A training that starts from a whole model of other classes."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config

from tresnet_det.checkpoints.classes import find_class_outputs, match_classes
from tresnet_det.checkpoints.load import Checkpoint
from tresnet_det.engine.warm_start import match_runner
from tresnet_det.engine.work_dir import find_checkpoint

THEIRS, CLASSES = ('ant', 'bee', 'cow'), ('cow', 'elk', 'ant', 'fox')
STILL = ['--cfg-options', 'train_cfg.max_epochs=1', 'optim_wrapper.optimizer.lr=1e-30']


def head(num_classes, fill):
    """Outputs of all kinds, the class's number as value; -1 is a background."""
    names = list(range(num_classes)) if fill is None else [fill] * num_classes
    back = [-1 if fill is None else fill]
    return {
        'head.fc.weight': torch.tensor(names)[:, None].repeat(1, 5),
        'head.conv_cls.bias': torch.tensor(names * 3),  # of 3 anchors
        'head.fc_cls.bias': torch.tensor(names + back),
        'head.cls_softmax.bias': torch.tensor((names + back) * 3),
        'head.fc_reg.bias': torch.tensor([name for name in names for _ in range(4)]),
        'head.conv_reg.bias': torch.tensor([7.0] * 4),
    }


def test_outputs_of_shared_classes_are_copied_and_others_stay():
    own = head(4, fill=9)
    outputs = find_class_outputs(own, head(5, fill=9), 4)
    assert own.keys() - outputs.keys() == {'head.conv_reg.bias'}
    got, copied = match_classes(own, head(3, fill=None), outputs, CLASSES, THEIRS)
    assert copied == ['cow', 'ant']
    expected = [2, 9, 0, 9]  # cow, elk, ant, fox
    assert got['head.fc.weight'].tolist() == [[n] * 5 for n in expected]
    assert got['head.conv_cls.bias'].tolist() == expected * 3
    assert got['head.fc_cls.bias'].tolist() == [*expected, -1]
    assert got['head.cls_softmax.bias'].tolist() == [*expected, -1] * 3
    assert got['head.fc_reg.bias'].tolist() == [n for n in expected for _ in range(4)]
    assert got['head.conv_reg.bias'].tolist() == [7.0] * 4


def test_outputs_whose_rows_are_not_known_are_left_out():
    def yolo(num_classes):  # box and objectness of each of 3 anchors before the classes
        return {'head.pred.bias': torch.arange(3.0 * (5 + num_classes))}

    def by_column(num_classes):
        return {'head.fc_logits.weight': torch.ones(num_classes, 5 + num_classes)}

    for outputs in (yolo, by_column):
        found = find_class_outputs(outputs(2), outputs(3), 2)
        assert list(found.values()) == [None]
        got = match_classes(outputs(2), outputs(2), found, ('b', 'a'), ('a', 'b'))
        assert got == ({}, [])


def test_names_that_do_not_fit_the_outputs_copy_nothing():
    own = head(4, fill=9)
    outputs = find_class_outputs(own, head(5, fill=9), 4)
    got, copied = match_classes(own, head(4, fill=None), outputs, CLASSES, THEIRS)
    assert (set(got), copied) == ({'head.conv_reg.bias'}, [])


@pytest.mark.parametrize('several', ['num_groups', 'query_embeddings'])
def test_a_head_without_outputs_of_each_class_begins_anew(several, tmp_path, tiny_arch):
    np.save(tmp_path / 'words.npy', np.ones((len(CLASSES), 8), np.float32))
    value = dict(num_groups=2, query_embeddings=str(tmp_path / 'words.npy'))[several]
    head = dict(type='MLDecoderHead', in_channels=512, num_classes=4, embed_dims=32)
    backbone = dict(type='TResNet', arch=tiny_arch, out_indices=(3,))
    model = dict(type='ImageClassifier', backbone=backbone, head=head | {several: value})
    cfg = Config(dict(model=model))
    built = MODELS.build(cfg.model)
    weights = built.state_dict()
    found = Checkpoint('x.pth', dict(state_dict=weights, meta=dict(classes=CLASSES[::-1])))
    loop = SimpleNamespace(dataloader=SimpleNamespace(dataset=SimpleNamespace()))
    loop.dataloader.dataset.metainfo = dict(classes=CLASSES)
    runner = SimpleNamespace(cfg=cfg, _train_loop=loop, logger=logging.getLogger('x'))
    got, names = match_runner(runner, weights, found)
    assert names == ([], [*CLASSES], [*CLASSES[::-1]])
    assert got.keys() == {key for key in weights if key.startswith('backbone.')}


@pytest.mark.parametrize(('metainfo', 'theirs', 'reason'), [
    ({}, CLASSES, 'the data names no classes'),
    (dict(classes=CLASSES), (), 'it names no classes'),
    (dict(classes=CLASSES), THEIRS, 'the data has 4, and the first num_classes of the config is 9'),
])  # fmt: skip
def test_what_cannot_be_matched_by_name_is_said(metainfo, theirs, reason, caplog):
    dataset = SimpleNamespace(metainfo=metainfo)
    loop = SimpleNamespace(dataloader=SimpleNamespace(dataset=dataset))
    cfg = Config(dict(model=dict(head=dict(num_classes=9))))
    runner = SimpleNamespace(cfg=cfg, _train_loop=loop, logger=logging.getLogger('x'))
    found = Checkpoint('x.pth', dict(state_dict=head(4, fill=9), meta=dict(classes=theirs)))
    assert match_runner(runner, {}, found) == (found.weights, None)
    assert caplog.messages == [f'x.pth: classes are matched by position: {reason}']


def test_a_detector_starts_from_another_on_classes_in_another_order(
    trained, data, tiny_config, run, tmp_path
):
    names = ['9', '1', 'kiwi', '3', '2', 'plum', '6', '0', '8', 'fig']

    def rename(content):
        for category, name in zip(content['categories'], names, strict=True):
            category['name'] = name

    for split in ('train', 'val'):
        data.edit(split, rename)
    first = trained('detection')
    options = ('--data', data.folder, '--pretrained', first.work_dir, '--work-dir', 'next')
    result = run('train', tiny_config('detection', data_root=data.folder), *options, *STILL)
    assert result.code == 0, result.err
    table = result.out[result.out.index('start from ') :].splitlines()
    assert "tensors, the outputs of '9', '1', '3'" in table[1]
    assert table[2].endswith("re-initialized the outputs of 'kiwi', 'plum', 'fig'")
    assert table[3].split(maxsplit=1) == ['skipped', "the outputs of '4', '5', '7'"]
    given = torch.load(find_checkpoint(first.work_dir), weights_only=True)['state_dict']
    taken = torch.load(tmp_path / 'next/epoch_1.pth', weights_only=True)
    assert taken['meta']['dataset_meta']['classes'] == tuple(names)
    assert taken['state_dict'].keys() == given.keys()
    learnt = [name.isdecimal() for name in names]
    rows = [int(name) for name in names if name.isdecimal()]
    for key, value in taken['state_dict'].items():
        if 'running' in key or 'num_batches' in key:  # statistics go on at any learning rate
            continue
        got, expected = value, given[key]
        if 'conv_cls' in key:
            got, expected = value[torch.tensor(learnt)], expected[rows]
        # What is saved is the average (EMA) of equal weights: some processors round it.
        torch.testing.assert_close(got, expected, rtol=4 * 2**-23, atol=1e-28, msg=key)
    bias = taken['state_dict']['bbox_head.conv_cls.bias'][~torch.tensor(learnt)]
    torch.testing.assert_close(bias.sigmoid(), torch.full((3,), 0.01))  # FCOS's prior


def test_a_classifier_starts_from_another_and_a_detectors_backbone_serves_it(
    trained, tiny_config, class_folders, run, tmp_path
):
    config = tiny_config('classification')
    result = run('train', config, '--pretrained', trained('classification').work_dir, *STILL)
    assert result.code == 0, result.err
    assert 'load_from' not in result.err  # nothing is missing or re-initialized
    detector = find_checkpoint(trained('detection').work_dir)
    result = run('train', config, '--pretrained', detector, '--work-dir', 'b', *STILL)
    assert result.code == 0, result.err
    given = torch.load(detector, weights_only=True)['state_dict']
    taken = torch.load(tmp_path / 'b/epoch_1.pth', weights_only=True)['state_dict']
    key = next(key for key in given if key.startswith('backbone.'))
    torch.testing.assert_close(taken[key], given[key], rtol=4 * 2**-23, atol=0)
