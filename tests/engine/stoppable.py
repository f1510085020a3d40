"""A training that draws random numbers wherever it can, and that can be stopped anywhere."""

import itertools
import random

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

import tresnet_det.engine  # noqa: F401  (registers hook and loops)

IMAGES, BATCH = 10, 3  # four batches, the last one of a single image
LOGGER = {'type': 'LoggerHook', 'interval': 1}
PLAIN = {'optimizer': {'type': 'SGD', 'lr': 0.01, 'momentum': 0.9}}


class Augmented:
    """Images that draw from all three sources, and that remember what was read."""

    def __init__(self):
        self.reads = []

    def __len__(self):
        return IMAGES

    def __getitem__(self, index):
        self.reads.append(index)
        noise = [random.random(), np.random.rand(), float(torch.rand(()))]
        return {'inputs': torch.tensor([index, *noise]), 'data_samples': index}


class Dropping(BaseModel):
    """A model that draws too, and keeps what it was given."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.seen, self.drawn = [], []

    def forward(self, inputs, data_samples=None, mode='loss'):
        x = torch.stack(list(inputs))
        if mode != 'loss':
            return list(x)
        self.seen.append(x.clone())
        dropped = nn.functional.dropout(self.layer(x), 0.5)
        self.drawn.append((random.random(), np.random.rand(), float(torch.rand(()))))
        return {'loss': dropped.square().mean() * (1 + sum(self.drawn[-1]))}


class BadGradient(torch.autograd.Function):
    """The identity, whose gradient is ``value`` where it is larger than ``limit``."""

    @staticmethod
    def forward(ctx, x, limit, value):
        ctx.limit, ctx.value = limit, value
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return torch.where(grad.abs() > ctx.limit, ctx.value, grad), None, None


class PulledError(Exception):
    """The plug is."""


class PullThePlug(Hook):
    """End the run at an iteration, or before a validation."""

    priority = 'LOWEST'

    def __init__(self, iteration=None, validation=None):
        self.iteration, self.validation = iteration, validation

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.iteration:
            raise PulledError

    def before_val(self, runner):
        if runner.epoch == self.validation:
            raise PulledError


EPOCHS = {'type': 'ResumableEpochTrainLoop', 'max_epochs': 3}
ITERATIONS = {'type': 'ResumableIterTrainLoop', 'max_iters': 12, 'val_interval': 100}


class Constant(BaseMetric):
    """A metric that never gets better."""

    default_prefix = 'coco'

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        return {'bbox_mAP': 0.5}


_started = itertools.count()


def run(
    work_dir, stop=None, file=None, train=EPOCHS, interval=1, workers=0, hooks=(), dataset=None,
    validate=False, seed=3, optim_wrapper=PLAIN, on_error='raise', more=None, model=None, **loader,
):  # fmt: skip
    """Train, or resume from a file in the work folder if one is named; return runner and model.

    ``interval`` is of the checkpoints: iterations, or ``'epoch'``. ``more`` is the runner's, and
    what else is given the training loader's.
    """
    torch.manual_seed(0)  # whoever begins, begins with the same weights
    model = model or Dropping()
    loader = {
        'batch_size': BATCH,
        'num_workers': workers,
        'persistent_workers': workers > 0,
        'sampler': {'type': 'DefaultSampler', 'shuffle': True},
        **loader,
    }
    by_epoch = interval == 'epoch'
    checkpoint = {
        'type': 'SafeCheckpointHook',
        'interval': 1 if by_epoch else interval,
        'by_epoch': by_epoch,
        'on_error': on_error,
    }
    more = dict(more or {})
    if validate:
        checkpoint.update(save_best='coco/bbox_mAP', rule='greater')
        plain = {**loader, 'sampler': {'type': 'DefaultSampler', 'shuffle': False}}
        more.update(
            val_dataloader={**plain, 'dataset': Augmented()},
            val_cfg={},
            val_evaluator=[Constant()],
        )
    runner = Runner(
        model=model,
        work_dir=str(work_dir),
        experiment_name=f'{work_dir}_{next(_started)}',
        train_dataloader={**loader, 'dataset': Augmented() if dataset is None else dataset},
        train_cfg=train,
        optim_wrapper=optim_wrapper,
        default_hooks={'logger': LOGGER, 'checkpoint': checkpoint},
        custom_hooks=[*hooks, *([stop] if stop else [])],
        randomness={'seed': seed},
        resume=file is not None,
        load_from=None if file is None else str(work_dir / file),
        default_scope='mmdet',
        **more,
    )
    try:
        runner.train()
    except PulledError:
        assert stop is not None
    return runner, model
