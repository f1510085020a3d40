"""What the processes of these tests do; each is forked from one that has imported the stack."""

import json
import multiprocessing
import os
import shutil
import signal
import sys
import time
from importlib import import_module
from pathlib import Path

import torch
from mmdet.registry import DATASETS, HOOKS, MODELS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.hooks import Hook
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from tresnet_det.cli import ending
from tresnet_det.datasets import stack_samples
from tresnet_det.engine import config as edit
from tresnet_det.engine import processes
from tresnet_det.evaluation.accuracy import AccuracyMetric
from tresnet_det.evaluation.coco_metric import CocoTwelveMetric
from tresnet_det.evaluation.multilabel import MultiLabelMetric
from tresnet_det.tasks import find_task


def run_tool(name, *arguments):
    sys.argv = [f'{name}.py', *map(str, arguments)]
    ending.run_tool(import_module(f'tresnet_det.cli.{name}').main)


@HOOKS.register_module()
class RecordHook(Hook):
    """Write each process's steps (files, scaled learning rate) and the validated statistics."""

    priority = 'LOWEST'

    def before_train(self, runner):
        self.steps = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        files = [Path(sample.img_path).name for sample in data_batch['data_samples']]
        rate = runner.optim_wrapper.optimizer.param_groups[0]['initial_lr']
        self.steps.append(dict(files=files, rate=rate))

    def before_val_epoch(self, runner):
        state = {k: v for k, v in runner.model.state_dict().items() if 'running_' in k}
        torch.save(state, Path(runner.work_dir, f'statistics_{runner.rank}.pth'))

    def after_train(self, runner):
        file = Path(runner.work_dir, f'steps_{runner.rank}.json')
        file.write_text(json.dumps(self.steps))


@HOOKS.register_module()
class TroubleHook(Hook):
    """Let something fail in one process at the second iteration."""

    def __init__(self, kind, rank=1, path=None):
        self.kind, self.rank, self.path = kind, rank, path

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == 1 and runner.rank == self.rank:
            getattr(self, self.kind)()

    def exception(self):
        raise ZeroDivisionError('the second step')

    def kill(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def kill_worker(self):
        os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)

    def remove_data(self):
        shutil.rmtree(self.path)

    def hang(self):
        time.sleep(20)


def take_steps(config, rank=0, count=1):
    """Train three steps in float64 on a process's share of eight images.

    Returns:
        The losses; the gradients of the first step, averaged over the processes; the last state.
    """
    cfg = edit.load_config(config)
    init_default_scope('mmdet')
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    model.double().train()
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    collate = pseudo_collate if find_task(cfg).detects else stack_samples
    data = model.data_preprocessor(collate([dataset[i] for i in range(rank, 8, count)]), True)
    network = MMDistributedDataParallel(model, broadcast_buffers=False) if count > 1 else model
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss, _ = model.parse_losses(
            network(data['inputs'].double(), data['data_samples'], mode='loss')
        )
        loss.backward()
        losses.append(loss.item())
        if len(losses) == 1:
            gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
        optimizer.step()
    return dict(losses=losses, gradients=gradients, state=model.state_dict())


def evaluate(count, ann_file):
    """Return the results of every metric on ``count`` images, of this process's share of them."""
    sampler = dict(type='DefaultSampler', shuffle=False)
    loader = dict(dataset=range(count), batch_size=2, num_workers=0, sampler=sampler)
    loader = Runner.build_dataloader(loader)
    metrics = {
        'coco': CocoTwelveMetric(ann_file),
        'multilabel': MultiLabelMetric(best_thresholds=True),
        'accuracy': AccuracyMetric(),
    }
    results = {}
    for name, metric in metrics.items():
        metric.dataset_meta = dict(classes=tuple('0123456789'))
        for batch in loader:
            metric.process(None, [predict(name, index) for index in batch])
        results |= metric.evaluate(count)
        results[f'{name} table'] = getattr(metric, 'per_class', None)
    return json.loads(json.dumps(results))


def predict(metric, index):
    """Make up what a model says of an image; the same in every process."""
    rng = torch.Generator().manual_seed(index)
    if metric != 'coco':
        truth = torch.randint(2 if metric == 'multilabel' else 10, (10,), generator=rng)
        truth = truth if metric == 'multilabel' else truth[0]
        return dict(pred_score=torch.rand(10, generator=rng), gt_label=truth, img_path=f'{index}')
    corners = torch.rand(20, 2, generator=rng) * 40
    boxes = torch.cat([corners, corners + 10 + torch.rand(20, 2, generator=rng) * 15], 1)
    scores = torch.rand(20, generator=rng)
    labels = torch.randint(10, (20,), generator=rng)
    instances = dict(bboxes=boxes, scores=scores, labels=labels)
    return dict(img_id=index + 1, ori_shape=(64, 64), pred_instances=instances)


def work_together(folder, configs, ann_files):
    """Join the group as the tools do; take steps, evaluate, and make a file that all read.

    Args:
        folder: Gets ``RANK.pth``.
        configs: By name, for :func:`take_steps`.
        ann_files: By number of images, for :func:`evaluate`.
    """
    processes.take_place('pytorch')
    processes.join(Config())
    rank, count = int(os.environ['RANK']), int(os.environ['WORLD_SIZE'])
    found = {name: take_steps(config, rank, count) for name, config in configs.items()}
    found |= {images: evaluate(images, file) for images, file in ann_files.items()}
    with processes.local_main_process_first():
        file = Path(folder, 'made')
        if rank == 0:
            time.sleep(0.3)
            file.write_text('whole')
        found['read'] = file.read_text()
    torch.save(found, Path(folder, f'{rank}.pth'))
    processes.leave()
