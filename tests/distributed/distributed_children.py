"""What the processes of these tests do; each is forked from one that has imported the stack."""

import json
import multiprocessing
import os
import runpy
import shutil
import signal
import sys
import time
from pathlib import Path

import torch
from mmdet.registry import HOOKS
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.data import Dataset

from tresnet_det.engine import processes
from tresnet_det.evaluation import AccuracyMetric, CocoTwelveMetric, MultiLabelMetric

TOOLS = Path(__file__).resolve().parents[2] / 'tools'


def run_child(place, files, folder, function, arguments):
    """Run a function in the environment of a launcher, its output in files."""
    os.environ.update(place)
    os.chdir(folder)
    for descriptor, file in enumerate(files, 1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), descriptor)
    torch.set_num_threads(1)
    multiprocessing.set_start_method('fork', force=True)  # for data loaders; it is the server's
    processes.LINGER = 1
    function(*arguments)


def run_tool(name, *arguments):
    sys.argv = [str(TOOLS / f'{name}.py'), *map(str, arguments)]
    runpy.run_path(sys.argv[0], run_name='__main__')


@HOOKS.register_module()
class RecordHook(Hook):
    """Write each process's steps (losses, learning rate, files) and the validated statistics."""

    priority = 'LOWEST'

    def before_train(self, runner):
        self.steps = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        losses = {key: float(value.detach()) for key, value in outputs.items()}
        files = sorted(sample.img_path for sample in data_batch['data_samples'])
        rate = runner.optim_wrapper.get_lr()['lr'][0]
        self.steps.append(dict(losses=losses, files=files, rate=rate))

    def before_val_epoch(self, runner):
        state = {k: v for k, v in runner.model.state_dict().items() if 'running_' in k}
        torch.save(state, Path(runner.work_dir, f'statistics_{runner.rank}.pth'))

    def after_train(self, runner):
        file = Path(runner.work_dir, f'steps_{runner.rank}.json')
        file.write_text(json.dumps(self.steps))


@HOOKS.register_module()
class TroubleHook(Hook):
    """Let something fail in one process at the seventh iteration."""

    def __init__(self, kind, rank=1, path=None):
        self.kind, self.rank, self.path = kind, rank, path

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == 6 and runner.rank == self.rank:
            getattr(self, self.kind)()

    def exception(self):
        raise ZeroDivisionError('the seventh step')

    def kill(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def kill_worker(self):
        os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)

    def remove_data(self):
        shutil.rmtree(self.path)

    def hang(self):
        time.sleep(20)


def join_group():
    """Take part in the group of a launcher's processes, as the tools do; alone, do nothing."""
    processes.take_place('pytorch')
    processes.join(Config())


class Numbers(Dataset):
    """Images that are only their numbers."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return index


def evaluate(count, ann_file):
    """Return the figures of every metric on ``count`` images, of this process's share of them."""
    loader = Runner.build_dataloader(
        dict(
            dataset=Numbers(count),
            batch_size=2,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='pseudo_collate'),
        )
    )
    metrics = {
        'coco': CocoTwelveMetric(ann_file),
        'multilabel': MultiLabelMetric(best_thresholds=True),
        'accuracy': AccuracyMetric(),
    }
    figures = {}
    for name, metric in metrics.items():
        metric.dataset_meta = dict(classes=tuple('0123456789'))
        for batch in loader:
            metric.process(None, [predict(name, index) for index in batch])
        figures |= metric.evaluate(count)
        figures[f'{name} table'] = getattr(metric, 'per_class', None)
    return figures


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


def evaluate_together(count, ann_file, out):
    join_group()
    figures = evaluate(count, ann_file)
    Path(f'{out}_{os.environ["RANK"]}.json').write_text(json.dumps(figures))
    processes.leave()


def make_then_read(path):
    """The first process takes its time over a file, which the others then read."""
    join_group()
    with processes.first_on_machine_first():
        if os.environ['RANK'] == '0':
            time.sleep(0.5)
            Path(path).write_text('whole')
        assert Path(path).read_text() == 'whole'
    processes.leave()
