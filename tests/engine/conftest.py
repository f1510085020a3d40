"""A real runner on a model of three layers, so that hooks meet mmengine as it is."""

import logging

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

import tresnet_det  # noqa: F401  (prepares the stack before MMDetection is imported)
import tresnet_det.engine  # noqa: F401  (registers the hooks)


class Sample:
    """What the hooks know of a data sample: the file it comes from."""

    def __init__(self, img_path):
        self.img_path = img_path


class Norm(nn.Module):
    """A norm of the name that the notation gives it."""

    def __init__(self, name):
        super().__init__()
        self.add_module(name, nn.BatchNorm1d(4))

    def forward(self, x):
        return next(self.children())(x)


class Toy(BaseModel):
    def __init__(self, width=4, classes=3, norm='bn'):
        super().__init__()
        self.stem = nn.Linear(2, width)
        self.body = nn.ModuleList([nn.Linear(width, width) for _ in range(30)])
        self.norm = Norm(norm) if width == 4 else nn.Identity()
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


@pytest.fixture
def build(tmp_path):
    """Make a runner of two epochs with four iterations each."""
    made = []

    def make(hooks, model=None, bad=None, epochs=2, val=True, evaluate_only=False, **more):
        loader = {
            'batch_size': 2,
            'num_workers': 0,
            'sampler': {'type': 'DefaultSampler', 'shuffle': False},
            'collate_fn': {'type': 'pseudo_collate'},
        }
        settings = {'default_hooks': {'logger': {'type': 'LoggerHook', 'interval': 2}}}
        if not evaluate_only:
            settings |= {
                'train_dataloader': {**loader, 'dataset': dataset(bad)},
                'train_cfg': {'by_epoch': True, 'max_epochs': epochs},
                'optim_wrapper': {'optimizer': {'type': 'SGD', 'lr': 0.01}},
            }
        if val or evaluate_only:
            settings |= {
                'val_dataloader': {**loader, 'dataset': dataset()},
                'val_cfg': {},
                'val_evaluator': [Count()],
                'test_dataloader': {**loader, 'dataset': dataset()},
                'test_cfg': {},
                'test_evaluator': [Count()],
            }
        runner = Runner(
            model=model or Toy(),
            work_dir=str(tmp_path / 'work'),
            custom_hooks=hooks,
            experiment_name=f'{tmp_path.name}_{len(made)}',
            default_scope='mmdet',
            **{**settings, **more},
        )
        made.append(runner)
        return runner

    return make


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
