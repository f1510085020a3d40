"""The table of tasks: a config is recognised by what its types are children of."""

import pytest
from mmdet.datasets import CocoDataset
from mmdet.evaluation import CocoMetric
from mmdet.models import FCOS
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from torch import nn

from tresnet_det import AsymmetricLoss, ImageClassifier, SingleLabelAsymmetricLoss
from tresnet_det.datasets import ImageFolderDataset, MultiLabelDataset
from tresnet_det.evaluation.accuracy import AccuracyMetric
from tresnet_det.evaluation.multilabel import MultiLabelMetric
from tresnet_det.tasks import (
    DETECTION,
    MULTI_LABEL,
    SINGLE_LABEL,
    TASKS,
    find_model_task,
    find_task,
)


class MyClassifier(ImageClassifier): ...


class MyDetector(FCOS): ...


class MyMultiLoss(AsymmetricLoss): ...


class MySingleLoss(SingleLabelAsymmetricLoss): ...


class MyLoss(nn.Module):
    multi_label = True


class LateLoss(nn.Module):
    """It says only when it is built which it is."""


class MyDataset(MultiLabelDataset): ...


class MyFolders(ImageFolderDataset): ...


class MyMetric(MultiLabelMetric): ...


class MyAccuracy(AccuracyMetric): ...


class MyCoco(CocoDataset): ...


class MyCocoMetric(CocoMetric): ...


class Score(BaseMetric):
    default_prefix = 'mine'

    def process(self, data_batch, data_samples): ...

    def compute_metrics(self, results): ...


def classifier(loss, kind=MyClassifier, dataset=None, evaluator=None):
    model = dict(type=kind, head=dict(type='LinearClsHead', loss=loss and dict(type=loss)))
    loader = dict(dataset=dict(type='RepeatDataset', dataset=dict(type=dataset)))
    return dict(
        model=model,
        **(dict(train_dataloader=loader) if dataset else {}),
        **(dict(val_evaluator=[dict(type=evaluator)]) if evaluator else {}),
    )


@pytest.mark.parametrize(
    ('config', 'task'),
    [
        (dict(model=dict(type='RetinaNet')), DETECTION),
        (dict(model=dict(type='mmdet.RetinaNet')), DETECTION),
        (dict(model=dict(type=MyDetector)), DETECTION),
        (dict(model=dict(type='DetTTAModel', module=dict(type=MyDetector))), DETECTION),
        (classifier('AsymmetricLoss', 'ImageClassifier'), MULTI_LABEL),
        (classifier('MultiLabelLoss'), MULTI_LABEL),
        (classifier(MyMultiLoss), MULTI_LABEL),
        (classifier(MyLoss), MULTI_LABEL),
        (classifier(LateLoss, evaluator=MyMetric), MULTI_LABEL),
        (classifier(LateLoss, dataset=MyDataset), MULTI_LABEL),
        (classifier(None, kind=nn.Linear, evaluator=MyMetric), MULTI_LABEL),
        (classifier('SoftmaxCrossEntropyLoss'), SINGLE_LABEL),
        (classifier(MySingleLoss, evaluator=Score), SINGLE_LABEL),
        (classifier(LateLoss, dataset=MyFolders), SINGLE_LABEL),
        (classifier(LateLoss, kind=nn.Linear, evaluator=MyAccuracy), SINGLE_LABEL),
    ],
)
def test_a_config_is_of_the_task_that_its_types_are_made_for(config, task):
    cfg = Config()
    for key, value in config.items():
        cfg[key] = value
    assert find_task(cfg) is task


def test_a_built_model_is_of_the_task_of_its_head(tiny_arch):
    def build(loss):
        head = dict(type='LinearClsHead', in_channels=512, num_classes=3, loss=loss)
        return MyClassifier(backbone=dict(type='TResNet', arch=tiny_arch), head=head)

    assert find_model_task(build(MyMultiLoss())) is MULTI_LABEL
    assert find_model_task(build(MySingleLoss())) is SINGLE_LABEL
    assert find_model_task(nn.Linear(1, 1)) is DETECTION


@pytest.mark.parametrize(
    ('evaluator', 'task', 'measured'),
    [
        (dict(type='CocoTwelveMetric'), DETECTION, True),
        (dict(type=MyCocoMetric), DETECTION, True),
        (dict(type=MyCocoMetric, prefix='other'), DETECTION, False),
        ([dict(type=Score), dict(type=MyMetric)], MULTI_LABEL, True),
        (dict(type=Score), SINGLE_LABEL, False),
        (None, SINGLE_LABEL, False),
    ],
)
def test_whether_an_evaluator_gives_the_headline_is_known_before(evaluator, task, measured):
    assert task.measures_headline(evaluator) == measured


def test_of_a_users_own_metric_all_numbers_are_printed():
    both = {'coco/bbox_mAP': 0.5, 'coco/segm_mAP': 0.4, 'coco/bbox_mAP_50': 0.7}
    assert DETECTION.summarize(both) == {'bbox mAP': 0.5, 'segm mAP': 0.4}
    assert SINGLE_LABEL.summarize({'mine/score': 0.25, 'mine/table': []}) == {'mine/score': 0.25}


def test_what_a_row_names_is_there(project_root):
    for task in TASKS:
        assert task.overlay.is_file()
        assert (project_root / 'configs' / task.config).is_file()
