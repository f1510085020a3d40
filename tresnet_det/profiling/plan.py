"""Time, memory, data rate and cost of a training on N GPUs, from one GPU's measured speed.

Every GPU has a copy of the model and its own batch (DistributedDataParallel). With a batch of b
images per GPU, S images/s on one GPU, and G bytes of gradients:

- computing = b / S, two thirds of it in the backward pass: of a convolution's three products of
  one size, two are there.
- communication = all-reduce of G in messages of 25 MiB, by a ring (Patarasuk and Yuan, 2009)
  inside a node and one between nodes, whose GPUs share the node's link. A ring of n takes
  2 (n-1)/n G / bandwidth + 2 (n-1) latency x messages.
- step = computing + max(0, communication - overlap x backward).
- hours = epochs x steps per epoch x step / 3600; cost = hours x N x price of a GPU hour.
- memory = (4 bytes x [parameters and buffers, twice with EMA; for each trainable value a gradient,
  the optimizer's values, and DDP's bucket] + b x activation memory) x 1.2.
- data rate = N b / step x bytes of an image file; CPU cores = N b / step / images/s of a core.

Links are nominal values and the overlap is an assumption: only S and the counts are measured.
"""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmengine.config import Config
from mmengine.registry import init_default_scope

from ..engine import config as edit
from ..engine.building import config_errors
from ..errors import InputError
from ..tasks import find_task
from .counts import count_parameters, kept_bytes
from .settings import autocast
from .timing import Row

BACKWARD_SHARE = 2 / 3
BUCKET_BYTES = 25 * 2**20
GIB = 2**30
# Share of memory for what is not counted: gradients of activations, cuDNN's work space, fragments.
# Peaks on a CPU were 7 to 18 % above what is counted (benchmarks/models_cpu.csv).
WORKSPACE = 0.2
FLOAT_BYTES = 4  # gradients and optimizer states are float32 in mixed precision too
# How far a linearly scaled learning rate is trusted. ImageNet: 8 x 1024 are the 8192 images of
# Goyal et al. (arXiv 1706.02677). Elsewhere it is a caution.
TRUSTED_GROWTH = 8

_OPTIMIZER_VALUES = {'SGD': 1, 'SGDW': 1}  # momentum; any other is taken to have Adam's two
_COUNTED_SIZE = 256  # pixels a side; activation memory grows with the area
_BOXES = 7  # per image: COCO's average
# Images/s that one core of an AMD EPYC reads, decodes and transforms: the medians of
# benchmarks/data_pipeline.csv and benchmarks/detectors_cpu.csv.
IMAGES_PER_CORE = {'classification': 249, 'multilabel': 168, 'detection': 178}
# Training images, and bytes of the archive per image. By the data's folder, or by the annotation
# file and whether images without annotations are skipped.
DATASETS: Mapping[object, tuple[int, float]] = {
    'imagenet': (1281167, 147897477120 / 1281167),
    'imagenet21k': (11797632, 1.31e12 / 14197122),  # 21K-P, bytes of the whole edition
    ('instances_train2017', False): (118287, 19336861798 / 118287),
    ('instances_train2017', True): (117266, 19336861798 / 118287),
    ('instances_train2014', False): (82783, 13510573713 / 82783),
    ('instances_train2014', True): (82081, 13510573713 / 82783),
}


class Link(NamedTuple):
    """A connection: bytes/s in one direction, and seconds until a message's first byte arrives."""

    bandwidth: float
    latency: float


# Nominal values; the latencies are no more than an order of magnitude.
LINKS: Mapping[str, Link] = {
    'nvlink4': Link(450e9, 3e-6),  # a GPU's share of 900 GB/s in both directions
    'nvlink2': Link(150e9, 3e-6),
    'infiniband-400g': Link(50e9, 5e-6),
    'ethernet-100g': Link(12.5e9, 30e-6),
}


@dataclass(frozen=True)
class Cluster:
    """How GPUs are connected."""

    in_node: Link
    between_nodes: Link  # of a whole node with the others: its GPUs share it
    gpus_per_node: int = 8
    overlap: float = 0.5  # share of the backward pass that hides communication, in [0, 1]

    def nodes(self, gpus: int) -> int:
        """Return how many nodes so many GPUs fill.

        Raises:
            InputError: If the last node would not be full.
        """
        if gpus > self.gpus_per_node and gpus % self.gpus_per_node:
            raise InputError(
                f'{gpus} GPUs do not fill nodes of {self.gpus_per_node}: give a multiple, '
                'or --gpus-per-node'
            )
        return max(1, gpus // self.gpus_per_node)

    def all_reduce_seconds(self, size: float, gpus: int, messages: int = 1) -> float:
        """Return the time of summing ``size`` bytes over all GPUs, sent in so many messages."""
        nodes, seconds = self.nodes(gpus), 0.0
        for members, link in ((gpus // nodes, self.in_node), (nodes, self.between_nodes)):
            hops = 2 * (members - 1)  # of a ring
            seconds += hops / members * size / link.bandwidth + hops * link.latency * messages
        return seconds


@dataclass(frozen=True)
class Training:
    """What a config states of its training; see :func:`read_training`."""

    images: int  # per epoch
    epochs: int
    batch_size: int  # per GPU
    drop_last: bool
    lr: float  # as the config has it
    base_batch_size: int | None  # images per step that lr is meant for; None where it stays
    workers: int  # processes that load images for a GPU
    file_bytes: float  # of an image, on average
    images_per_core: float  # images/s that a core reads, decodes and transforms

    def steps_per_epoch(self, gpus: int, batch: int) -> int:
        """Return the steps of an epoch: MMEngine's DefaultSampler gives every GPU as many."""
        own = math.ceil(self.images / gpus)
        return own // batch if self.drop_last else math.ceil(own / batch)


@dataclass(frozen=True)
class Footprint:
    """What a model occupies while it trains; see :func:`count_model`."""

    parameters: int  # values
    trainable: int  # values of those that learn
    buffers: int  # values of running statistics and the like
    optimizer_values: int  # that the optimizer keeps for each value that learns
    averaged: bool  # whether a moving average (EMA) is kept
    kept_per_image: float  # activation memory, bytes

    @property
    def gradient_bytes(self) -> int:
        """Bytes of the gradients."""
        return FLOAT_BYTES * self.trainable

    def state_bytes(self, distributed: bool) -> int:
        """Return what is there between steps: weights, gradients, optimizer, average, buckets."""
        model = (self.parameters + self.buffers) * (1 + self.averaged)
        return FLOAT_BYTES * (model + self.trainable * (1 + self.optimizer_values + distributed))

    def memory_bytes(self, batch: int, distributed: bool) -> float:
        """Return the memory of a step, with ``WORKSPACE`` for what is not counted."""
        return (self.state_bytes(distributed) + batch * self.kept_per_image) * (1 + WORKSPACE)

    def largest_batch(self, memory: float, distributed: bool) -> int:
        """Return how many images fit into ``memory`` bytes, 0 if none does."""
        left = memory / (1 + WORKSPACE) - self.state_bytes(distributed)
        return max(0, int(left // self.kept_per_image))


def plan(
    training: Training,
    model: Footprint,
    cluster: Cluster,
    speed: float,
    gpus: int,
    max_global_batch: int | None = None,
    price: float | None = None,
) -> Row:
    """Return the plan for one number of GPUs; ``hours_max`` is without any overlap.

    Args:
        training: What is trained.
        model: Its size.
        cluster: How the GPUs are connected.
        speed: Images/s that one GPU trains on.
        gpus: How many of them.
        max_global_batch: Images per step over all GPUs, to which each GPU's batch shrinks.
        price: Of a GPU hour; adds ``cost``.

    Raises:
        InputError: So many GPUs cannot be, or leave no image for some.
    """
    nodes = cluster.nodes(gpus)
    batch = int(min(training.batch_size, (max_global_batch or math.inf) // gpus))
    steps = training.steps_per_epoch(gpus, batch) if batch else 0
    if not steps:
        raise InputError(
            f'{gpus} GPUs: {training.images} images per epoch and steps of '
            f'{max_global_batch or batch * gpus} leave no batch for each of them'
        )
    compute = batch / speed
    messages = math.ceil(model.gradient_bytes / BUCKET_BYTES)
    communication = cluster.all_reduce_seconds(model.gradient_bytes, gpus, messages)
    step = compute + max(0.0, communication - cluster.overlap * BACKWARD_SHARE * compute)
    hours = training.epochs * steps * step / 3600
    img_per_s = gpus * batch / step
    row = {
        'gpus': gpus,
        'nodes': nodes,
        'batch_size': batch,
        'global_batch': gpus * batch,
        'lr': training.lr * gpus * batch / (training.base_batch_size or gpus * batch),
        'steps_per_epoch': steps,
        'compute_seconds': compute,
        'communication_seconds': communication,
        'step_seconds': step,
        'efficiency': compute / step,
        'img_per_s': img_per_s,
        'hours': hours,
        'hours_max': training.epochs * steps * (compute + communication) / 3600,
        'gpu_hours': hours * gpus,
        'memory_bytes': model.memory_bytes(batch, gpus > 1),
        'read_bytes_per_s': img_per_s * training.file_bytes,
        'cores': img_per_s / training.images_per_core,
    }
    return row if price is None else row | {'cost': hours * gpus * price}


def warnings(
    training: Training, model: Footprint, rows: Sequence[Row], memory: float | None = None
) -> list[str]:
    """Return what to think of before these plans are carried out, a line each.

    Args:
        training: What is trained.
        model: Its size.
        rows: Of :func:`plan`.
        memory: Bytes of a GPU.
    """
    found = []
    base = training.base_batch_size or math.inf
    grown = next((row for row in rows if row['global_batch'] > TRUSTED_GROWTH * base), None)
    if grown:
        found.append(
            f'from {grown["gpus"]} GPUs on, a step of {grown["global_batch"]} images is '
            f'{grown["global_batch"] / base:.3g} times the {base} that the recipe is made for; '
            f'a linearly scaled learning rate is not trusted beyond {TRUSTED_GROWTH} times: '
            f'--max-global-batch {TRUSTED_GROWTH * base}'
        )
    needed = max(row['cores'] / row['gpus'] for row in rows)
    if needed > training.workers:
        found.append(
            f'a GPU needs {needed:.1f} cores for loading, and the config starts '
            f'{training.workers} workers for it: raise train_dataloader.num_workers'
        )
    return found + [
        f'on {row["gpus"]} GPUs, {row["memory_bytes"] / GIB:.1f} GiB do not fit into '
        f'{memory / GIB:g}: the largest batch is {model.largest_batch(memory, row["gpus"] > 1)}'
        for row in rows
        if memory is not None and row['memory_bytes'] > memory
    ]


def read_training(
    cfg: Config, images: int | None = None, image_kb: float | None = None
) -> Training:
    """Read from a config what a training is.

    Args:
        cfg: The config.
        images: Per epoch, where the dataset is none of ``DATASETS``.
        image_kb: Average kilobytes of a file; by default the dataset's, or COCO's.

    Raises:
        InputError: If the config does not train by epochs, or its dataset is unknown.
    """
    loader = cfg.get('train_dataloader') or {}
    epochs = (cfg.get('train_cfg') or {}).get('max_epochs')
    if not epochs or 'batch_size' not in loader:
        raise InputError('the config has no train_cfg.max_epochs or train_dataloader.batch_size')
    dataset = loader['dataset']
    filters = dataset.get('filter_cfg') or {}
    skips_empty = bool(dataset.get('filter_empty') or filters.get('filter_empty_gt'))
    key = Path(dataset.get('ann_file') or '').stem, skips_empty
    known = DATASETS.get(key) or DATASETS.get(Path(dataset.get('data_root') or '').name)
    if known is None and images is None:
        raise InputError("the size of the config's dataset is unknown: give --num-images N")
    count, file_bytes = known or DATASETS['instances_train2017', False]
    scaling = cfg.get('auto_scale_lr') or {}
    return Training(
        images=images or count,
        epochs=epochs,
        batch_size=loader['batch_size'],
        drop_last=loader.get('drop_last', False),
        lr=cfg.optim_wrapper.optimizer.lr,
        base_batch_size=scaling.get('base_batch_size') if scaling.get('enable') else None,
        workers=loader.get('num_workers', 0),
        file_bytes=1000 * image_kb if image_kb else file_bytes,
        images_per_core=IMAGES_PER_CORE[find_task(cfg).name],
    )


def read_image_area(cfg: Config) -> int:
    """Return the pixels of the largest image that the training pipeline makes, padding included.

    Raises:
        InputError: If no step of it says so.
    """
    for step in reversed(list(edit.iterate_dicts(cfg.train_dataloader.dataset.get('pipeline')))):
        size, scales = step.get('size'), step.get('scales') or step.get('scale')
        if size and (step['type'] == 'Pad' or not find_task(cfg).detects):
            return math.prod(size) if isinstance(size, Sequence) else size * size
        if scales and 'Resize' in step['type']:
            scales = [scales] if isinstance(scales[0], int) else scales
            padded = 32 if step.get('keep_ratio', True) else 1  # detectors pad to multiples of 32
            return max(math.prod(math.ceil(s / padded) * padded for s in scale) for scale in scales)
    raise InputError('no step of train_dataloader.dataset.pipeline says how large images are')


def find_precision(cfg: Config) -> str:
    """Return in which precision a config trains on a GPU: ``fp32``, ``bf16`` or ``fp16``."""
    wrapper = cfg.optim_wrapper
    if wrapper.get('type') != 'AmpOptimWrapper':
        return 'fp32'
    return {'bfloat16': 'bf16'}.get(wrapper.get('dtype'), 'fp16')


def count_model(cfg: Config, area: float) -> Footprint:
    """Build a config's model from scratch and count what it occupies in training.

    Frozen stages stay frozen; nothing is downloaded. The model runs on images of 256 pixels, and
    its activation memory is scaled to ``area``, which fits convolutions. A detector whose loss
    cannot be computed on random boxes is counted without its loss.

    Args:
        cfg: The config; it is not changed.
        area: Pixels of its images.

    Raises:
        InputError: If the model cannot be built.
    """
    cfg = copy.deepcopy(cfg)
    edit.drop_pretrained(cfg)
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    with config_errors():
        model = MODELS.build(cfg.model).train()
    precision, side = find_precision(cfg), _COUNTED_SIZE

    def losses(batch: int) -> object:
        data = demo_mm_inputs(
            batch, [[3, side, side]] * batch, [_BOXES] * batch, num_classes=2, with_mask=True
        )
        data = model.data_preprocessor(data, True)
        with autocast('cpu', precision):
            return model(**data, mode='loss')

    def outputs(batch: int) -> object:
        x = torch.rand(batch, 3, side, side).to(memory_format=torch.channels_last)
        with autocast('cpu', precision):
            return model(x, mode='tensor')

    def count(forward: Callable[[int], object]) -> list[int]:
        own = [*model.parameters(), *model.buffers()]
        return [kept_bytes(partial(forward, batch), own) for batch in (1, 2)]

    try:
        kept = count(losses if find_task(cfg).detects else outputs)
    except Exception:  # some losses want a training under way, some real images
        kept = count(outputs)
    optimizer = cfg.optim_wrapper.optimizer['type']
    return Footprint(
        parameters=count_parameters(model),
        trainable=sum(p.numel() for p in model.parameters() if p.requires_grad),
        buffers=sum(b.numel() for b in model.buffers()),
        optimizer_values=_OPTIMIZER_VALUES.get(optimizer, 2),
        averaged=any(hook['type'] == 'EMAHook' for hook in cfg.get('custom_hooks') or []),
        # Without what a step keeps whatever its batch, as the weights' casts to bfloat16.
        kept_per_image=(kept[1] - kept[0]) * area / side**2,
    )
