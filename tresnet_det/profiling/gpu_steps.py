"""The steps of ``gpu.py``: ceilings, correctness, speed, memory, detectors, a training on BCCD."""

import copy
import dataclasses
import gc
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import distributed as dist
from torch import nn
from torch.multiprocessing.spawn import ProcessException, start_processes

from ..compat.installed import own_folder
from ..engine.config import load_config
from ..errors import InputError
from ..layers import BlurPool, InPlaceABN, SqueezeExcite
from ..models import TResNet
from . import models
from .ceilings import measure_ceilings
from .classifiers import ClassifierRun, measure_memory
from .counts import model_macs
from .gpu import Run, Step
from .memory import peak_memory
from .report import describe
from .settings import PRECISIONS, Settings
from .timing import Row, Task, add_speeds, measure_interleaved

BASE = 'torchvision:resnet50'
BACKENDS = {
    'torch': 'tresnet_m',
    'triton': 'tresnet_m_triton',
    'inplace_abn': 'tresnet_m_inplace_abn',
}
# Of the dtype's eps, relative to the whole tensor: recovered from a rounded output, a gradient errs
# by a few, and sums in another order by less.
BOUND = 32
_RIVALS = ('timm:tresnet_m', 'timm:resnet50d')
MODES = ('eager', 'graphs', 'compile')
LAYERS = ('leaky_relu', 'identity', 'blur', 'gate')
_TINY: dict[str, Any] = dict(depths=(1, 1, 1, 1), width_factor=0.25)
_IMAGES, _CHANNELS = 8, 32


def _settings(run: Run, batch_size: int, **options: Any) -> Settings:
    if run.dry:
        batch_size, options = 2, options | dict(rounds=1, min_seconds=0.0)
    precision = options.pop('precision', 'bf16')
    return Settings(run.device, precision, batch_size=batch_size, **options)


def _spec(run: Run, name: str) -> models.ModelSpec:
    spec = models.resolve(name, 64 if run.dry else 224)
    if not run.dry:
        return spec
    backend = next((key for key, known in BACKENDS.items() if known == name), 'auto')
    norm_cfg = dict(type='InPlaceABN', backend=backend)

    def build() -> nn.Module:
        return models.TResNetClassifier(TResNet(_TINY, out_indices=(3,), norm_cfg=norm_cfg))

    return dataclasses.replace(spec, build=build)


def measure_device(run: Run) -> None:
    """Write what the device is, and what it can do at most."""
    header = describe(_settings(run, 1))
    for name in ('precision', 'batch size', 'rounds', 'compile', 'folded norms', 'layout'):
        del header[name]
    run.add('device', header | measure_ceilings(run.device, tiny=run.dry))


class _Gate(nn.Module):
    def __init__(self, backend: str) -> None:
        super().__init__()
        self.product = SqueezeExcite(_CHANNELS, 8, backend).product

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.product(x, x.mean((2, 3), keepdim=True).sigmoid())


def _layer(kind: str, backend: str, sync: bool = False) -> nn.Module:
    if kind == 'blur':
        return BlurPool(backend)
    if kind == 'gate':
        return _Gate(backend)
    norm = InPlaceABN(_CHANNELS, activation=kind, sync=sync, backend=backend)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 1.5)
        norm.weight[::2] *= -1
        norm.bias.uniform_(-0.2, 0.2)
    return norm


def _results(
    layer: nn.Module, x: torch.Tensor, dtype: torch.dtype, mine: slice = slice(None)
) -> dict[str, torch.Tensor]:
    """Return output, gradients and statistics of a training step, with these images of a batch."""
    part = x[mine].detach().clone().requires_grad_()
    y = layer(part)
    generator = torch.Generator().manual_seed(1)
    grad = torch.randn(len(x), *y.shape[1:], generator=generator).to(dtype)[mine]
    y.backward(grad.to(y))
    assert part.grad is not None
    found = {'output': y.detach(), 'gradient': part.grad}
    found |= {name: p.grad for name, p in layer.named_parameters() if p.grad is not None}
    return found | dict(layer.named_buffers())


def _error(found: torch.Tensor, expected: torch.Tensor, dtype: torch.dtype) -> float:
    """Return the error relative to the whole tensor, in units of the dtype's eps."""
    error = (found.double() - expected).norm() / expected.norm()
    return error.item() / torch.finfo(dtype).eps


def _add_check(run: Run, errors: dict[str, float], **what: str) -> None:
    worst = max(errors, key=lambda name: errors[name])
    passed = all(error <= BOUND for error in errors.values())  # a NaN is not
    row = what | dict(worst=worst, error_in_eps=errors[worst], passed=passed)
    run.add('correctness', row)


def check_layers(run: Run) -> None:
    """Compare the layers of every backend with float64, in every precision and both layouts."""
    for backend in BACKENDS:
        for kind in LAYERS if backend != 'inplace_abn' else LAYERS[:1]:
            run.attempt(f'correctness of {backend}, {kind}', partial(_check, run, backend, kind))


def _check(run: Run, backend: str, kind: str) -> None:
    torch.manual_seed(0)
    layer = _layer(kind, backend).to(run.device)
    exact = _layer(kind, 'torch').to(run.device).double()
    exact.load_state_dict(layer.state_dict())
    images = torch.randn(_IMAGES, _CHANNELS, 15, 14, device=run.device) * 2 + 1
    for precision, dtype in PRECISIONS.items():
        for layout in (torch.contiguous_format, torch.channels_last):
            x = images.to(dtype, memory_format=layout)
            expected = _results(copy.deepcopy(exact), x.double(), dtype)
            found = _results(copy.deepcopy(layer), x, dtype)
            errors = {name: _error(found[name], expected[name], dtype) for name in expected}
            layout_name = str(layout).removeprefix('torch.')
            _add_check(
                run, errors, backend=backend, layer=kind, precision=precision, layout=layout_name
            )


def check_processes(run: Run) -> None:
    """Compare shared statistics of two processes on one device with those of the whole batch."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = (folder, run)
        try:
            start_processes(_check_shared, arguments, nprocs=2, start_method=run.start_method)
        except ProcessException as error:  # with a whole traceback
            raise InputError(str(error).strip().rpartition('\n')[2]) from error


def _check_shared(rank: int, folder: str, run: Run) -> None:
    group = 'gloo' if run.device.type == 'cpu' else 'nccl'
    dist.init_process_group(group, f'file://{folder}/meet', rank=rank, world_size=2)
    torch.manual_seed(0)
    x = torch.randn(_IMAGES, _CHANNELS, 15, 14, device=run.device) * 2 + 1
    mine = slice(0, 3) if rank == 0 else slice(3, None)
    for kind in LAYERS[:2]:
        layer = _layer(kind, 'torch', sync=True).to(run.device)
        exact = _layer(kind, 'torch').to(run.device).double()
        exact.load_state_dict(layer.state_dict())
        dist.barrier()
        expected = _results(exact, x.double(), x.dtype)
        found = _results(layer, x, x.dtype, mine)
        for name in ('weight', 'bias'):  # each process has the gradient of its own images
            dist.all_reduce(found[name])
        for name in ('output', 'gradient'):
            expected[name] = expected[name][mine]
        errors = {name: _error(found[name], expected[name], x.dtype) for name in expected}
        worst = torch.tensor(list(errors.values()), device=x.device).nan_to_num(torch.inf)
        dist.all_reduce(worst, dist.ReduceOp.MAX)
        if rank == 0:
            where = dict(precision='fp32', layout='contiguous_format')
            errors = dict(zip(errors, worst.tolist(), strict=True))
            _add_check(run, errors, backend=f'two processes, {group}', layer=kind, **where)
    dist.destroy_process_group()


def measure_speed(run: Run, batch_size: int, modes: Sequence[str]) -> None:
    """Compare each model in each mode with ResNet-50 in eager mode, the two in turns.

    The rows come in the order of their worth. A model is compiled for training and for inference
    one after the other: each takes up to a minute.
    """
    torch.backends.cudnn.benchmark = True
    settings = _settings(run, batch_size, rounds=3, min_seconds=0.3)
    base = ClassifierRun(_spec(run, BASE), settings)
    ours, both = list(BACKENDS.values()), ('training', 'inference')
    contests: dict[str, list[tuple[str, Sequence[str]]]] = {
        'eager': [(name, both) for name in (BASE, *ours, *_RIVALS, f'{BASE}_folded')],
        'graphs': [(name, both) for name in (*ours, BASE, _RIVALS[0])],
        'compile': [
            (name, (task,)) for task in both for name in (ours[0], BASE, _RIVALS[0])
        ],
    }  # fmt: skip
    for mode in modes:
        for name, tasks in contests[mode]:
            seconds = 0 if run.dry else 30 if mode == 'compile' else 5
            measure = partial(_compare, run, base, name, mode, tasks)
            run.attempt(f'{name}, {mode}, batch {batch_size}', measure, seconds)
            gc.collect()
            torch.cuda.empty_cache()


def _compare(run: Run, base: ClassifierRun, name: str, mode: str, chosen: Sequence[str]) -> None:
    settings = base.settings
    spec = _spec(run, name)
    with torch.device('meta'):
        macs = model_macs(spec.build(), spec.size)
    contestant = base if (name, mode) == (BASE, 'eager') else ClassifierRun(spec, settings)
    if mode == 'compile':
        contestant.compile('aot_eager' if run.dry else 'inductor')
    tasks = {key: task for key, task in contestant.tasks().items() if key in chosen}
    if mode == 'graphs':
        tasks = {key: capture(task) for key, task in tasks.items()}
    both = [{key: task for key, task in base.tasks().items() if key in tasks}, tasks]
    rows: list[Row] = [{}, {}]
    add_speeds(rows, measure_interleaved(both, settings.rounds, settings.min_seconds))
    row: Row = {'model': name, 'mode': mode, 'batch_size': settings.batch_size, 'macs': macs}
    row |= rows[1]
    ceilings = run.rows('device')
    for task, passes in {'training': 3, 'inference': 1}.items():  # a backward pass is two
        if ceilings and task in tasks:
            operations = 2 * macs * passes * row[f'{task}_img_per_s']
            row[f'{task}_share_of_ceiling'] = operations / (1e12 * float(ceilings[-1]['tflops']))
    run.add('speed', row)


def capture(task: Task) -> Task:
    """Return a task as a CUDA graph, which launches all of its kernels at once.

    Raises:
        InputError: If it is not a GPU's.
    """
    if task.device_type != 'cuda':
        raise InputError('CUDA graphs need a GPU')
    task.before()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # the first steps allocate and tune, which a graph cannot
        for _ in range(3):
            task.step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        task.step()
    return Task(graph.replay, task.images, task.device_type)


def measure_batches(run: Run) -> None:
    """Write the peak memory of training, and the largest batch that trains."""
    names = [BASE, 'tresnet_m', 'timm:tresnet_m']
    for number, name in enumerate(names):
        run.attempt(f'memory of {name}', partial(_measure_batch, run, name, len(names) - number))
        gc.collect()
        torch.cuda.empty_cache()


def _measure_batch(run: Run, name: str, sharing: int) -> None:
    settings = _settings(run, 64)
    seconds = 0.8 * run.left / sharing
    row = measure_memory(_spec(run, name), settings, seconds, most=16 if run.dry else None)
    if row['peak_bytes'] is not None:
        row['peak_bytes_per_image'] = row['peak_bytes'] / settings.batch_size
    run.add('memory', {'model': name, 'batch_size': settings.batch_size} | row)


def measure_detectors(run: Run) -> None:
    """Compare a training step of FCOS on both backbones, at the size that COCO is trained at."""
    from .detectors import DetectorRun

    settings = _settings(run, 2, rounds=3, min_seconds=1.0)
    size = (64, 96) if run.dry else (800, 1333)
    rows: list[Row] = []
    contestants = []
    for name in ('fcos_resnet50', 'fcos_tresnet_m'):
        detector = DetectorRun(load_config(own_folder('configs') / f'{name}.py'), settings, size)
        task = detector.tasks()['training']
        task.before()
        task.step()
        with peak_memory(run.device) as peak:
            task.step()
        rows.append({'model': name, 'batch_size': settings.batch_size, 'peak_bytes': peak.bytes})
        contestants.append({'training': task})
    add_speeds(rows, measure_interleaved(contestants, settings.rounds, settings.min_seconds))
    for row in rows:
        run.add('detectors', row)


def train_on_bccd(run: Run) -> None:
    """Train FCOS on both backbones and with three seeds, one after the other, on BCCD."""
    data = Path(run.bccd)
    if not run.dry and not (data / 'annotations' / 'instances_train.json').is_file():
        raise InputError(f'no BCCD data in {data}: give --data-root DIR, made by voc_to_coco')
    for seed in range(1 if run.dry else 3):
        for name in ('fcos_resnet50_bccd', 'fcos_tresnet_m_bccd'):
            run.attempt(
                f'{name}, seed {seed}', partial(_train, run, name, seed), 0 if run.dry else 20
            )


def _train(run: Run, name: str, seed: int) -> None:
    config = own_folder('configs') / 'bccd' / f'{name}.py'
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, '-m', 'tresnet_det', 'train', str(config), '--work-dir', folder]
        options = [f'randomness.seed={seed}']
        if run.dry:
            command += ['--demo', '--data-root', str(run.out / 'demo')]
            options += ['train_cfg.max_epochs=1', 'train_cfg.val_interval=1']
        else:
            command += ['--data-root', run.bccd]
            options += ['train_dataloader.num_workers=8']
        done = subprocess.run(
            [*command, '--cfg-options', *options], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise InputError((done.stderr or done.stdout).strip().rpartition('\n')[2])
        summary = json.loads(Path(folder, 'summary.json').read_text())
    run.add(
        'bccd', dict(model=name, seed=seed, val_map=summary['best'], seconds=summary['seconds'])
    )


STEPS = {
    'device': Step(measure_device, 15),
    'correctness': Step(check_layers, 35),
    'two processes': Step(check_processes, 25),
    'speed, batch 256': Step(partial(measure_speed, batch_size=256, modes=MODES[:2]), 90),
    'compiled, batch 256': Step(partial(measure_speed, batch_size=256, modes=MODES[2:]), 105),
    'speed, batch 64': Step(partial(measure_speed, batch_size=64, modes=MODES), 55),
    'memory': Step(measure_batches, 45),
    'detectors': Step(measure_detectors, 40),
    'bccd': Step(train_on_bccd, 50),
}
