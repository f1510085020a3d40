"""Faults planted one at a time: the check names each, and a training refuses in its words."""

from functools import partial

import pytest
from mmdet.registry import DATASETS
from planted import CASES, LAYOUTS, codes, errors, inspect, inspect_path

from tresnet_det.errors import InputError
from tresnet_det.readers.config import check_detection, find_config_sources
from tresnet_det.readers.findings import KINDS, Findings
from tresnet_det.readers.layouts import find_layout
from tresnet_det.readers.prepare import prepare_splits

# What a training starts with: nothing but a look at the pixels, or at both splits, tells.
BY_PIXELS = {'undecodable-image', 'size-differs', 'exif-rotated'}


@pytest.fixture
def planted(request, tmp_path):
    """A folder with a fault, what the check has to find, and the task."""
    layout, name = request.param
    write, plants, task = LAYOUTS[layout]
    data = write(tmp_path / 'set')
    plant, expected = plants[name]
    plant(data)
    data.write()
    return data.root, expected, task


def attempt(call):
    """Return what a call returns, and the message of the mistake that stopped it."""
    try:
        return call(), ''
    except InputError as error:
        return None, str(error)


@pytest.mark.parametrize('planted', CASES, indirect=True, ids=' '.join)
def test_the_check_names_what_training_refuses_and_counts_what_it_takes(planted, tmp_path):
    root, expected, task = planted
    before = sorted(root.rglob('*'))
    report = inspect_path(root)
    assert codes(report) == expected
    assert report.failed == any(KINDS[code].level == 'error' for _, code in expected)
    assert all(finding.examples for finding in report.findings)
    ready, refusal = attempt(
        lambda: prepare_splits(find_layout(root, task), task, tmp_path / 'out')
    )
    if ready is None:
        assert refusal in [finding.message for finding in errors(report)]
        assert len(refusal.splitlines()) == 1
        assert not (tmp_path / 'out').exists()
    else:
        assert {f.code for f in errors(report)} <= BY_PIXELS
        splits = {part.split.name: part.split for part in report.parts}
        assert list(splits) == list(ready.splits)
        for role, split in splits.items():
            found, counts = ready.splits[role], ready.splits[role].counts
            assert (split.folder, split.classes) == (found.folder, ready.classes)
            assert (len(split.files), split.usable.sum()) == (counts.num_images, counts.num_objects)
    assert sorted(root.rglob('*')) == before  # nothing is written into it


def config_of(root, task, split):
    if task == 'detection':
        return dict(
            type='CocoDataset',
            data_root=str(root),
            ann_file=f'annotations/instances_{split}.json',
            data_prefix=dict(img=f'{split}/'),
            metainfo=dict(classes=('cat', 'dog')),
        )
    settings = dict(data_root=str(root), metainfo=dict(classes=('cat', 'dog')))
    if task == 'multilabel':
        prefix = dict(img='images')
        return dict(settings, type='MultiLabelDataset', ann_file=f'{split}.csv', data_prefix=prefix)
    return dict(settings, type='ImageFolderDataset', data_prefix=dict(img=split))


def start(task, cfg, split):
    if task == 'detection':
        return check_detection(cfg, split)
    return DATASETS.build(dict(cfg, pipeline=[]))


@pytest.mark.parametrize(
    'planted', [c for c in CASES if c[0] not in ('voc', 'yolo')], indirect=True, ids=' '.join
)
def test_a_config_is_refused_in_the_words_of_its_check(planted):
    root, _, task = planted
    for split in ('train', 'val'):
        cfg, findings = config_of(root, task, split), Findings()
        sources = find_config_sources(cfg, split, split == 'train', findings)
        messages = [f.message for f in errors(inspect(sources, findings))]
        found, refusal = attempt(partial(start, task, cfg, split))
        if found is None:
            assert refusal in messages
        else:
            codes_left = {f.code for f in findings if f.level == 'error'}
            assert codes_left <= {'undecodable-image'}
