"""How samples become a batch."""

import copy
import pickle

import pytest
import torch

from tresnet_det.datasets import stack_samples
from tresnet_det.models import ClsDataSample


def batch(labels):
    return stack_samples(
        [
            dict(
                inputs=torch.zeros(3, 4, 4, dtype=torch.uint8),
                data_samples=ClsDataSample(gt_label=label, metainfo=dict(img_path=f'{i}.jpg')),
            )
            for i, label in enumerate(labels)
        ]
    )


COPIES = pytest.mark.parametrize(
    'copied', [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=['deepcopy', 'pickle']
)


@COPIES
@pytest.mark.parametrize('labels', [[1, 2], [[1, 0, -1], [0, 0, 1]], [[1, 0], [1]], []], ids=str)
def test_samples_arrive_as_a_plain_list_with_memory_of_their_own(labels, copied):
    samples = batch(labels)['data_samples']
    arrived = copied(samples)
    assert type(arrived) is list
    assert [sample.gt_label.tolist() for sample in arrived] == labels
    assert [sample.img_path for sample in arrived] == [f'{i}.jpg' for i in range(len(labels))]
    for sample in arrived:
        sample.gt_label.fill_(7)
    assert [sample.gt_label.tolist() for sample in samples] == labels


@COPIES
def test_what_a_sample_holds_besides_its_label_arrives_too(copied):
    samples = batch([1, 2])['data_samples']
    samples[1].pred_score = torch.tensor([0.25, 0.75])
    arrived = copied(samples)
    assert 'pred_score' not in arrived[0]
    assert arrived[1].pred_score.tolist() == [0.25, 0.75]
