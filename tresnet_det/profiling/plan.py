"""What a training takes on N GPUs: arithmetic on the measured speed of one of them.

Every GPU has a copy of the model and a batch of its own (DistributedDataParallel), so a step takes
the time of one GPU's batch and the part of the gradients' exchange that the backward pass does not
hide. The exchange is a ring all-reduce (Patarasuk and Yuan, 2009): inside a node, and then between
nodes. Units are images, bytes and seconds throughout.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..errors import InputError

# A convolution's backward pass has two products of the size of the one in its forward pass.
BACKWARD_SHARE = 2 / 3
BUCKET_BYTES = 25 * 2**20  # DistributedDataParallel sends gradients in pieces of so many bytes
FLOAT_BYTES = 4  # of a parameter, its gradient and each of the optimiser's values for it
# By how many times its base batch a recipe is trusted to grow at a linearly scaled learning rate.
# ImageNet: 8 x 1024 are the 8192 of Goyal et al. (arXiv 1706.02677). Elsewhere it is a caution.
TRUSTED_GROWTH = 8
TRUSTED_WARMUP = 0.25  # of all steps; a schedule that warms up for longer hardly trains
NOTABLE_REST = 0.05  # of an epoch's images, left out with the last batch

Row = dict[str, Any]  # names and figures by column


class Link(NamedTuple):
    """A connection that gradients travel.

    Attributes:
        bandwidth: Bytes a second in one direction.
        latency: Seconds until a message's first byte arrives.
    """

    bandwidth: float
    latency: float


# Nominal figures of the hardware, one direction; nothing here is measured. Software reaches less,
# and the latencies are no more than an order of magnitude.
LINKS: Mapping[str, Link] = {
    'nvlink4': Link(450e9, 3e-6),  # a GPU's share of 900 GB/s in both directions
    'nvlink3': Link(300e9, 3e-6),
    'nvlink2': Link(150e9, 3e-6),
    'pcie4': Link(32e9, 6e-6),  # 16 lanes
    'infiniband-400g': Link(50e9, 5e-6),
    'ethernet-100g': Link(12.5e9, 30e-6),
    'ethernet-10g': Link(1.25e9, 50e-6),
}


def parse_link(text: str) -> Link:
    """Return a preset by its name, or a link from ``GB/s:microseconds``, as ``12.5:30``.

    Raises:
        InputError: If it is neither.
    """
    if text in LINKS:
        return LINKS[text]
    bandwidth, _, latency = text.partition(':')
    try:
        link = Link(float(bandwidth) * 1e9, float(latency) * 1e-6)
    except ValueError:
        link = Link(0, 0)
    if not 0 < link.bandwidth < math.inf or not 0 <= link.latency < math.inf:
        raise InputError(
            f'unknown link {text!r}: use {", ".join(LINKS)}, or GB/s:microseconds as in 12.5:30'
        )
    return link


@dataclass(frozen=True)
class Cluster:
    """How GPUs are connected.

    Attributes:
        in_node: Between two GPUs of a node.
        between_nodes: Of a whole node with the others: its GPUs share it.
        gpus_per_node: In a full node.
    """

    in_node: Link
    between_nodes: Link
    gpus_per_node: int = 8

    def split(self, gpus: int) -> tuple[int, int]:
        """Return on how many nodes so many GPUs are, and how many each has.

        Raises:
            InputError: If the nodes would not all be full.
        """
        if gpus < 1 or self.gpus_per_node < 1:
            raise InputError(f'{min(gpus, self.gpus_per_node)} GPUs cannot train: give 1 or more')
        if gpus <= self.gpus_per_node:
            return 1, gpus
        if gpus % self.gpus_per_node:
            raise InputError(
                f'{gpus} GPUs do not fill nodes of {self.gpus_per_node}: give a multiple, '
                'or --gpus-per-node'
            )
        return gpus // self.gpus_per_node, self.gpus_per_node


def ring_seconds(size: float, members: int, link: Link, messages: int = 1) -> float:
    """Return the time of a ring all-reduce: ``2 (N-1)/N bytes/bandwidth + 2 (N-1) latency``.

    Args:
        size: Bytes in all messages together.
        members: Of the ring.
        link: Between neighbours.
        messages: In how many pieces the bytes are sent; each has the latency anew.
    """
    hops = 2 * (members - 1)
    return hops / members * size / link.bandwidth + hops * link.latency * messages


def all_reduce_seconds(size: float, gpus: int, cluster: Cluster, messages: int = 1) -> float:
    """Return the time of summing ``size`` bytes over all GPUs.

    A node's GPUs first sum a part each, exchange it with the same part of the other nodes, and hand
    the sums round: a ring inside the node, and one between nodes whose GPUs share the node's link.
    """
    nodes, per_node = cluster.split(gpus)
    inside = ring_seconds(size, per_node, cluster.in_node, messages)
    return inside + ring_seconds(size, nodes, cluster.between_nodes, messages)


def exposed_seconds(communication: float, compute: float, overlap: float) -> float:
    """Return the part of the communication that the backward pass does not hide.

    Args:
        communication: Its time alone.
        compute: Of a step, forward and backward.
        overlap: Share of the backward pass beside which gradients travel, 0 to 1.
    """
    return max(0.0, communication - overlap * BACKWARD_SHARE * compute)


@dataclass(frozen=True)
class Footprint:
    """What a model occupies while it trains.

    Attributes:
        parameters: Values in all parameters.
        trainable: Values in those that learn.
        buffers: Values in running statistics and the like.
        optimizer_values: That the optimiser keeps for each value that learns.
        averaged: Whether a moving average (EMA) of parameters and buffers is kept.
        kept_per_image: Bytes that each image of a batch keeps for the backward pass.
        kept_once: Bytes that a step keeps whatever its batch, as the weights' casts to bfloat16.
    """

    parameters: int
    trainable: int
    buffers: int
    optimizer_values: int
    averaged: bool
    kept_per_image: float
    kept_once: float = 0

    @property
    def gradient_bytes(self) -> int:
        """Bytes of the gradients, which are float32 whatever the precision of the layers."""
        return FLOAT_BYTES * self.trainable

    def state_bytes(self, distributed: bool) -> int:
        """Return what is there between steps: weights, gradients, optimiser, average.

        Args:
            distributed: Whether DistributedDataParallel holds the gradients once more, to send.
        """
        model = self.parameters + self.buffers
        per_trainable = 1 + self.optimizer_values + distributed
        return FLOAT_BYTES * (model * (1 + self.averaged) + self.trainable * per_trainable)

    def memory_bytes(self, batch: int, distributed: bool, workspace: float) -> float:
        """Return the memory that a step needs.

        Args:
            batch: Images on this GPU.
            distributed: See :meth:`state_bytes`.
            workspace: Added for what is not counted, as a share of all that is: the gradients of
                activations, cuDNN's work space, fragments.
        """
        kept = self.kept_once + batch * self.kept_per_image
        return (self.state_bytes(distributed) + kept) * (1 + workspace)

    def largest_batch(self, memory: float, distributed: bool, workspace: float) -> int:
        """Return how many images fit into ``memory`` bytes, 0 if none does."""
        left = memory / (1 + workspace) - self.state_bytes(distributed) - self.kept_once
        return max(0, int(left // self.kept_per_image))


@dataclass(frozen=True)
class Training:
    """What a config says of its training, and what is known of its images.

    Attributes:
        images: In an epoch.
        epochs: Of the whole training.
        batch_size: Images of one GPU in a step.
        drop_last: Whether an incomplete last batch is left out.
        lr: The learning rate as the config has it.
        base_batch_size: Images in the step that ``lr`` is meant for; None where it stays as it
            is.
        warmup_steps: Of a warm-up that is counted in steps, 0 where it is counted in epochs.
        workers: Processes that read images for a GPU.
        file_bytes: Of an image file, on the mean.
        images_per_core: That a core reads, decodes and transforms in a second.
    """

    images: int
    epochs: int
    batch_size: int
    drop_last: bool
    lr: float
    base_batch_size: int | None
    warmup_steps: int
    workers: int
    file_bytes: float
    images_per_core: float

    def __post_init__(self) -> None:
        if min(self.images, self.file_bytes, self.images_per_core) <= 0:
            raise InputError(
                f'{self.images} images of {self.file_bytes:g} bytes, {self.images_per_core:g}'
                ' a second from a core: none of them can be 0 or less'
            )


@dataclass(frozen=True)
class Assumptions:
    """What a plan assumes beside training and model.

    Attributes:
        speed: Images that one GPU trains on in a second.
        cluster: How the GPUs are connected.
        overlap: See :func:`exposed_seconds`.
        workspace: See :meth:`Footprint.memory_bytes`.
        max_global_batch: Images that a step has at most, over all GPUs: each GPU's batch shrinks
            to it. None leaves the batch as it is.
    """

    speed: float
    cluster: Cluster
    overlap: float = 0.5
    workspace: float = 0.2
    max_global_batch: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.speed < math.inf:
            raise InputError(f'{self.speed:g} images/s: the speed is a number above 0')
        if not 0 <= self.overlap <= 1:
            raise InputError(f'an overlap of {self.overlap:g}: it is a share, from 0 to 1')
        if not 0 <= self.workspace < math.inf:
            raise InputError(f'a workspace of {self.workspace:g}: it is a share, from 0 up')


def plan(training: Training, model: Footprint, assumed: Assumptions, gpus: int) -> Row:
    """Return the plan for one number of GPUs.

    ``hours`` and ``efficiency`` stand with the same at full overlap and at none, as ``_min`` and
    ``_max``.

    Raises:
        InputError: If so many GPUs cannot be, or leave no image for some.
    """
    nodes, _ = assumed.cluster.split(gpus)
    batch = training.batch_size
    if assumed.max_global_batch is not None:
        batch = min(batch, assumed.max_global_batch // gpus)
    steps = steps_per_epoch(training, gpus, batch)
    if batch < 1 or steps < 1:
        raise InputError(
            f'{gpus} GPUs: {training.images} images per epoch and steps of '
            f'{assumed.max_global_batch or batch * gpus} leave no batch for each of them'
        )
    compute = batch / assumed.speed
    messages = math.ceil(model.gradient_bytes / BUCKET_BYTES)
    communication = all_reduce_seconds(model.gradient_bytes, gpus, assumed.cluster, messages)
    step, shortest, longest = (
        compute + exposed_seconds(communication, compute, overlap)
        for overlap in (assumed.overlap, 1, 0)
    )
    hours = training.epochs * steps / 3600  # by second of a step
    speed = gpus * batch / step
    growth = gpus * batch / (training.base_batch_size or gpus * batch)
    return {
        'gpus': gpus,
        'nodes': nodes,
        'batch_size': batch,
        'global_batch': gpus * batch,
        'lr': training.lr * growth,
        'steps_per_epoch': steps,
        'compute_seconds': compute,
        'communication_seconds': communication,
        'step_seconds': step,
        'efficiency': compute / step,
        'efficiency_min': compute / longest,
        'efficiency_max': compute / shortest,
        'img_per_s': speed,
        'hours': hours * step,
        'hours_min': hours * shortest,
        'hours_max': hours * longest,
        'gpu_hours': hours * step * gpus,
        'memory_bytes': model.memory_bytes(batch, gpus > 1, assumed.workspace),
        'read_bytes_per_s': speed * training.file_bytes,
        'cores': speed / training.images_per_core,
    }


def steps_per_epoch(training: Training, gpus: int, batch: int) -> int:
    """Return the steps of an epoch, as MMEngine's DefaultSampler deals the images out.

    Every GPU gets the same number, some of them an image twice.
    """
    own = math.ceil(training.images / gpus)
    if batch < 1:
        return 0
    return own // batch if training.drop_last else math.ceil(own / batch)


def remarks(training: Training, rows: Sequence[Row], assumed: Assumptions) -> list[str]:
    """Return what to think of before these plans are carried out, a line each."""
    found = []
    base = training.base_batch_size or math.inf
    grown = _first(rows, lambda row: row['global_batch'] > TRUSTED_GROWTH * base)
    if grown:
        found.append(
            f'from {grown["gpus"]} GPUs on, a step of {grown["global_batch"]} images is '
            f'{grown["global_batch"] / base:.3g} times the {base} that the recipe is made for; '
            f'a linearly scaled learning rate is not trusted beyond {TRUSTED_GROWTH} times: '
            f'--max-global-batch {TRUSTED_GROWTH * base}'
        )
    steps = {row['gpus']: row['steps_per_epoch'] * training.epochs for row in rows}
    warming = _first(rows, lambda r: training.warmup_steps > TRUSTED_WARMUP * steps[r['gpus']])
    if warming:
        share = min(1, training.warmup_steps / steps[warming['gpus']])
        found.append(
            f'from {warming["gpus"]} GPUs on, the warm-up of {training.warmup_steps} steps is '
            f'{share:.0%} of the training: shorten it'
        )
    partial = _first(rows, lambda row: _left_out(training, row) > NOTABLE_REST)
    if partial:
        found.append(
            f'from {partial["gpus"]} GPUs on, {_left_out(training, partial):.0%} of the images '
            'of an epoch or more are left out, as they fill no step'
        )
    needed = max(row['cores'] / row['gpus'] for row in rows)
    if needed > training.workers:
        found.append(
            f'a GPU uses up what {needed:.1f} cores decode, and the config starts '
            f'{training.workers} workers for it: reading would hold it back; raise '
            'train_dataloader.num_workers where there are cores for it'
        )
    if any(row['batch_size'] != training.batch_size for row in rows):
        found.append(
            "the speed is taken to be the same at a smaller batch than the config's "
            f'{training.batch_size}; measure it there'
        )
    return found


def _first(rows: Sequence[Row], holds: Callable[[Row], bool]) -> Row | None:
    return next((row for row in rows if holds(row)), None)


def _left_out(training: Training, row: Row) -> float:
    return 1 - row['steps_per_epoch'] * row['global_batch'] / training.images
