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
from .settings import PRECISIONS, Settings, autocast
from .timing import Row, Workload, add_speeds, measure_interleaved

BASE = 'torchvision:resnet50'
BACKENDS = {
    'torch': 'tresnet_m', 'triton': 'tresnet_m_triton', 'inplace_abn': 'tresnet_m_inplace_abn',
}  # fmt: skip
_TIMM = 'timm:tresnet_m'
MODES = ('eager', 'graphs', 'compile')
WORKLOADS = ('training', 'inference')
LAYERS = ('leaky_relu', 'identity', 'blur', 'squeeze_excite')
# Relative to the whole tensor, in eps of the precision: what is recovered from a rounded output
# errs by a few.
BOUND = 32
_BATCH, _CHANNELS = 8, 32


def _settings(run: Run, batch_size: int, **options: Any) -> Settings:
    if run.dry:
        batch_size, options = 2, options | dict(rounds=1, min_seconds=0.0)
    return Settings(run.device, **({'precision': 'bf16'} | options), batch_size=batch_size)


def _spec(run: Run, name: str) -> models.ModelSpec:
    """Return the model of that name; in a rehearsal, a tiny TResNet in its place."""
    spec = models.resolve(name, 64 if run.dry else 224)
    if not run.dry:
        return spec
    backend = next((key for key, known in BACKENDS.items() if known == name), 'auto')
    tiny: dict[str, Any] = dict(
        arch=dict(depths=(1, 1, 1, 1), width_factor=0.25),
        norm_cfg=dict(type='InPlaceABN', backend=backend),
    )
    return dataclasses.replace(
        spec, build=lambda: models.TResNetClassifier(TResNet(out_indices=(3,), **tiny))
    )


def measure_device(run: Run) -> None:
    """Write what the device is, and what it can do at most."""
    header = describe(_settings(run, 1))
    known = {key: header.get(key) for key in ('machine', 'device', 'state', 'versions', 'command')}
    run.add('device', known | measure_ceilings(run.device, tiny=run.dry))


def check_layers(run: Run) -> None:
    """Compare the layers of every backend with float64, in every precision and both layouts."""
    torch.backends.cudnn.allow_tf32 = False  # which is no float32
    for backend in BACKENDS:
        for kind in LAYERS[:1] if backend == 'inplace_abn' else LAYERS:
            run.attempt(f'correctness of {backend}, {kind}', partial(_check, run, backend, kind))


def _check(run: Run, backend: str, kind: str) -> None:
    torch.manual_seed(0)
    layer, exact, images = _case(run, kind, backend)
    for precision, dtype in PRECISIONS.items():
        for layout in ('contiguous_format', 'channels_last'):
            x = images.to(dtype, memory_format=getattr(torch, layout))
            what = dict(backend=backend, layer=kind, precision=precision, layout=layout)
            try:
                expected = _results(copy.deepcopy(exact), x.double(), dtype)
                with autocast(run.device.type, precision):
                    found = _results(copy.deepcopy(layer), x, dtype)
                verdict = _verdict(_errors(found, expected, dtype))
            except Exception as error:  # it has failed in this one
                run.skip(' '.join(what.values()), f'{type(error).__name__}: {error}')
                verdict = dict(worst=type(error).__name__, error_in_eps=None, passed=False)
            run.add('correctness', what | verdict)


def _case(
    run: Run, kind: str, backend: str, sync: bool = False
) -> tuple[nn.Module, nn.Module, torch.Tensor]:
    """Return a layer, the same one on torch in float64, and a batch."""
    layer, exact = _layer(kind, backend, sync), _layer(kind, 'torch')
    exact.load_state_dict(layer.state_dict())
    images = torch.randn(_BATCH, _CHANNELS, 15, 14) * 2 + 1
    return layer.to(run.device), exact.to(run.device).double(), images.to(run.device)


def _layer(kind: str, backend: str, sync: bool = False) -> nn.Module:
    if kind == 'blur':
        return BlurPool(backend)
    if kind == 'squeeze_excite':
        return SqueezeExcite(_CHANNELS, 8, backend)
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


def _errors(
    found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], dtype: torch.dtype
) -> dict[str, float]:
    eps = torch.finfo(dtype).eps
    return {
        name: ((found[name].double() - exact).norm() / exact.norm()).item() / eps
        for name, exact in expected.items()
    }


def _verdict(errors: dict[str, float]) -> Row:
    worst = max(errors, key=lambda name: errors[name])
    passed = all(error <= BOUND for error in errors.values())  # a NaN is not
    return dict(worst=worst, error_in_eps=errors[worst], passed=passed)


def check_processes(run: Run) -> None:
    """Compare shared statistics of two processes on one device with those of the whole batch."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            start_processes(_check_shared, (folder, run), 2, start_method=run.start_method)
        except ProcessException as error:  # with a whole traceback
            raise InputError(str(error).strip().rpartition('\n')[2]) from error


def _check_shared(rank: int, folder: str, run: Run) -> None:
    group = 'gloo' if run.device.type == 'cpu' else 'nccl'
    if group == 'nccl':
        torch.cuda.set_device(run.device)
    dist.init_process_group(group, f'file://{folder}/meet', rank=rank, world_size=2)
    torch.manual_seed(0)
    mine = slice(0, 3) if rank == 0 else slice(3, None)
    for kind in LAYERS[:2]:
        layer, exact, x = _case(run, kind, 'torch', sync=True)
        expected, found = _results(exact, x.double(), x.dtype), _results(layer, x, x.dtype, mine)
        for name in ('weight', 'bias'):  # each process has the gradient of its own images
            dist.all_reduce(found[name])
        for name in ('output', 'gradient'):
            expected[name] = expected[name][mine]
        verdict = _verdict(_errors(found, expected, x.dtype))
        for turn in range(2):
            if turn == rank:
                run.add('correctness', dict(backend=f'sync, {group}', layer=kind) | verdict)
            dist.barrier()
    dist.destroy_process_group()


def measure_speed(run: Run, batch_size: int, modes: Sequence[str]) -> None:
    """Compare each model in each mode with ResNet-50 in eager mode, the two in turns.

    The rows come in the order of their worth. A model is compiled for training and for inference
    one after the other: each takes up to a minute.
    """
    torch.backends.cudnn.benchmark = True
    settings = _settings(run, batch_size, rounds=3, min_seconds=0.3)
    base = ClassifierRun(_spec(run, BASE), settings)
    ours, rivals = list(BACKENDS.values()), (_TIMM, 'timm:resnet50d', f'{BASE}_folded')
    contests: dict[str, list[tuple[str, Sequence[str]]]] = {
        'eager': [(name, WORKLOADS) for name in (BASE, *ours, *rivals)],
        'graphs': [(name, WORKLOADS) for name in (*ours, BASE, _TIMM)],
        'compile': [
            (name, [workload]) for workload in WORKLOADS for name in (ours[0], BASE, _TIMM)
        ],
    }
    for mode in modes:
        for name, workloads in contests[mode]:
            seconds = 0 if run.dry else 30 if mode == 'compile' else 5
            measure = partial(_compare, run, base, name, mode, workloads)
            run.attempt(f'{name}, {mode}, batch {batch_size}', measure, seconds)
            free_memory()


def _compare(run: Run, base: ClassifierRun, name: str, mode: str, chosen: Sequence[str]) -> None:
    settings, spec = base.settings, _spec(run, name)
    with torch.device('meta'):
        macs = model_macs(spec.build(), spec.size)
    contestant = base if (name, mode) == (BASE, 'eager') else ClassifierRun(spec, settings)
    if mode == 'compile':
        contestant.compile('aot_eager' if run.dry else 'inductor')
    workloads = {key: workload for key, workload in contestant.workloads().items() if key in chosen}
    if mode == 'graphs':
        workloads = {key: capture(workload) for key, workload in workloads.items()}
    theirs = base.workloads()
    pair = [{key: theirs[key] for key in workloads}, workloads]
    rows: list[Row] = [{}, dict(model=name, mode=mode, batch_size=settings.batch_size, macs=macs)]
    add_speeds(rows, measure_interleaved(pair, settings.rounds, settings.min_seconds))
    devices = run.rows('device')  # none where its step failed
    for workload in workloads if devices else ():
        flops = macs * (6 if workload == 'training' else 2)  # a backward pass is two forward ones
        speed = rows[1][f'{workload}_img_per_s']
        rows[1][f'{workload}_share'] = flops * speed / (1e12 * devices[0]['tflops'])
    run.add('speed', rows[1])


def capture(workload: Workload) -> Workload:
    """Return a workload as a CUDA graph, which launches all of its kernels at once.

    Raises:
        InputError: If it is not a GPU's.
    """
    if workload.device_type != 'cuda':
        raise InputError('CUDA graphs need a GPU')
    workload.before()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # the first steps allocate and tune, which a graph cannot
        for _ in range(3):
            workload.step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        workload.step()
    return Workload(graph.replay, workload.images, workload.device_type)


def free_memory() -> None:
    """Give back what a model before had."""
    gc.collect()
    torch.cuda.empty_cache()


def measure_batches(run: Run) -> None:
    """Write the peak memory of training, and the largest batch that trains."""
    names = [BASE, BACKENDS['torch'], _TIMM]
    for number, name in enumerate(names):
        seconds = 0.8 * run.left / (len(names) - number)
        run.attempt(f'memory of {name}', partial(_measure_batch, run, name, seconds))
        free_memory()


def _measure_batch(run: Run, name: str, seconds: float) -> None:
    settings = _settings(run, 64)
    row = measure_memory(_spec(run, name), settings, seconds, most=16 if run.dry else None)
    row['peak_bytes_per_image'] = (row['peak_bytes'] or 0) / settings.batch_size
    run.add('memory', {'model': name, 'batch_size': settings.batch_size} | row)


def measure_detectors(run: Run) -> None:
    """Compare a training step of FCOS on both backbones, at the size that COCO is trained at."""
    from .detectors import DetectorRun

    # Training alone; on a CPU, bf16's backward pass is three times as slow.
    precision = 'fp32' if run.dry else 'bf16'
    settings = _settings(run, 2, rounds=3, min_seconds=1.0, fuse=False, precision=precision)
    rows: list[Row] = []
    contestants = []
    for name in ('fcos_resnet50', 'fcos_tresnet_m'):
        cfg = load_config(own_folder('configs') / f'{name}.py')
        detector = DetectorRun(cfg, settings, (64, 96) if run.dry else (800, 1333))
        contestants.append({'training': detector.workloads()['training']})
        detector.train_step()
        with peak_memory(run.device) as peak:
            detector.train_step()
        rows.append(dict(model=name, batch_size=settings.batch_size, peak_bytes=peak.bytes))
    add_speeds(rows, measure_interleaved(contestants, settings.rounds, settings.min_seconds))
    for row in rows:
        run.add('detectors', row)


def train_on_bccd(run: Run) -> None:
    """Train FCOS on both backbones and with three seeds, one after the other, on BCCD."""
    data = Path(run.bccd, 'annotations', 'instances_train.json')
    if not run.dry and not data.is_file():
        raise InputError(f'{data} does not exist: give --data-root DIR, made by voc_to_coco')
    names = ('fcos_tresnet_m_bccd', 'fcos_resnet50_bccd')
    for seed in range(1 if run.dry else 3):
        for name in names[:1] if run.dry else names:  # the demo's network is of a TResNet
            measure = partial(_train, run, name, seed)
            run.attempt(f'{name}, seed {seed}', measure, 0 if run.dry else 20)


def _train(run: Run, name: str, seed: int) -> None:
    config = own_folder('configs') / 'bccd' / f'{name}.py'
    options, data = ['train_dataloader.num_workers=8'], ['--data-root', run.bccd]
    if run.dry:
        options = ['train_cfg.max_epochs=1', 'train_dataloader.dataset.indices=8']
        data = ['--demo', '--data-root', str(run.out / 'demo')]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, '-m', 'tresnet_det', 'train', str(config), *data]
        command += ['--work-dir', folder, '--cfg-options', f'randomness.seed={seed}', *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise InputError((done.stderr or done.stdout).strip().rpartition('\n')[2])
        summary = json.loads(Path(folder, 'summary.json').read_text())
    found = dict(val_map=summary['best'], seconds=summary['seconds'])
    run.add('bccd', dict(model=name, seed=seed) | found)


# Of 460 seconds: eight minutes with the imports before. CUDA starts again in each.
STEPS = {
    'device': Step(measure_device, 30),
    'correctness': Step(check_layers, 35),
    'two processes': Step(check_processes, 45),
    'speed, batch 256': Step(partial(measure_speed, batch_size=256, modes=MODES[:2]), 90),
    'compiled, batch 256': Step(partial(measure_speed, batch_size=256, modes=MODES[2:]), 105),
    'speed, batch 64': Step(partial(measure_speed, batch_size=64, modes=MODES), 40),
    'memory': Step(measure_batches, 45),
    'detectors': Step(measure_detectors, 40),
    'bccd': Step(train_on_bccd, 30),
}
