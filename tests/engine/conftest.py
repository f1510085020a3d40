"""A real runner on a model of three layers, so that hooks meet mmengine as it is."""

import copy
import itertools
import logging

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

import tresnet_det  # noqa: F401  (prepares the stack before MMDetection is imported)
from tresnet_det.engine import config as edit


class Sample:
    """What the hooks know of a data sample: the file it comes from."""

    def __init__(self, img_path):
        self.img_path = img_path


class Toy(BaseModel):
    def __init__(self, width=4, classes=3):
        super().__init__()
        self.stem = nn.Linear(2, width)
        self.body = nn.ModuleList([nn.Linear(width, width) for _ in range(30)])
        self.norm = nn.BatchNorm1d(4) if width == 4 else nn.Identity()
        self.head = nn.Linear(width, classes)

    def forward(self, inputs, data_samples=None, mode='loss'):
        x = self.head(self.norm(self.stem(torch.stack(list(inputs)))))
        if mode == 'loss':
            return {'loss_cls': x.square().mean(), 'loss_box': self.head.bias.square().mean()}
        return list(x)


class Count(BaseMetric):
    default_prefix = 'coco'

    def process(self, data_batch, data_samples):
        self.results.append(len(data_samples))

    def compute_metrics(self, results):
        return {'bbox_mAP': min(1.0, 0.1 * sum(results))}


def dataset(bad=None):
    """Eight samples; the inputs of ``bad`` are not finite."""
    items = []
    for i in range(8):
        value = float('nan') if i == bad else 0.1 * i
        items.append({'inputs': torch.full((2,), value), 'data_samples': Sample(f'img_{i}.jpg')})
    return items


@pytest.fixture(scope='session')
def builder():
    """A function: of a folder, the function that makes runners in it."""
    return _make_builder


def _make_builder(folder):
    made = itertools.count()

    def make(hooks, model=None, bad=None, epochs=2, val=True, evaluate_only=False, **more):
        sampler = dict(type='DefaultSampler', shuffle=False)
        loader = dict(batch_size=2, num_workers=0, sampler=sampler)
        settings = dict(default_hooks=dict(logger=dict(type='LoggerHook', interval=2)))
        if not evaluate_only:
            settings |= dict(
                train_dataloader=dict(loader, dataset=dataset(bad)),
                train_cfg=dict(by_epoch=True, max_epochs=epochs),
                optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
            )
        for name in ('val', 'test') if val or evaluate_only else ():
            settings |= {
                f'{name}_dataloader': dict(loader, dataset=dataset()),
                f'{name}_cfg': {},
                f'{name}_evaluator': [Count()],
            }
        return Runner(
            model=model or Toy(),
            work_dir=str(folder / 'work'),
            custom_hooks=hooks,
            experiment_name=f'{folder.name}_{next(made)}',
            default_scope='mmdet',
            **{**settings, **more},
        )

    return make


@pytest.fixture
def build(tmp_path):
    """Make a runner of two epochs with four iterations each."""
    return _make_builder(tmp_path)


@pytest.fixture
def log():
    """Collect what a runner logs: ``log(runner)`` returns the list that will hold the lines."""

    def listen(runner):
        lines = []
        handler = logging.Handler()
        handler.emit = lambda record: lines.append(record.getMessage())
        runner.logger.handlers.append(handler)
        return lines

    return listen


@pytest.fixture
def toy():
    return Toy


@pytest.fixture(scope='session')
def _fcos():
    return edit.load_config('tresnet_det::fcos_tresnet_m.py')


@pytest.fixture
def fcos(_fcos):
    return copy.deepcopy(_fcos)
