"""Where a plan's figures come from: the config, its model, and a file of measured speeds."""

import copy
import csv
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import init_default_scope
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from ..engine import config as edit
from ..engine.building import config_errors
from ..errors import InputError, MissingFileError
from ..tasks import find_task
from .counts import count_parameters, kept_bytes
from .plan import Footprint, Training
from .settings import autocast

# Images/s that one core of an AMD EPYC brings from the JPEG file to what the model takes:
# this project's medians on COCO's photos (data_pipeline.csv and detectors_cpu.csv in benchmarks/).
IMAGES_PER_CORE = {'classification': 337, 'multilabel': 239, 'detection': 178}

_OPTIMIZER_VALUES = {'SGD': 1, 'SGDW': 1}  # momentum; for all others the two of Adam
_DETECTOR_SIZE = 256  # at which a detector's bytes are counted; they grow with the area
_BOXES = 7  # of each image: what COCO has on average
_DIVISOR = 32  # to multiples of which detectors pad
_PHOTO_RATIO = 4 / 3  # of most photographs' sides


class DataSet(NamedTuple):
    """The training split of a data set.

    Attributes:
        images: How many there are.
        file_bytes: Of an image, on the mean: the archive's size by its images.
    """

    images: int
    file_bytes: float


_COCO_2017 = 19336861798 / 118287  # bytes of train2017.zip
_COCO_2014 = 13510573713 / 82783  # bytes of train2014.zip
# By what a config reads: the data's folder, or the annotation file and whether it leaves out
# images without annotations.
DATA_SETS: Mapping[object, DataSet] = {
    'imagenet': DataSet(1281167, 147897477120 / 1281167),  # ILSVRC2012_img_train.tar
    # ImageNet-21K-P of the 2011 edition, with 11221 classes (arXiv 2104.10972); bytes of the whole
    # edition, 1.31 TB for 14197122 images. Files resized to 224 beforehand are a fraction of it.
    'imagenet21k': DataSet(11797632, 1.31e12 / 14197122),
    ('instances_train2017', False): DataSet(118287, _COCO_2017),
    ('instances_train2017', True): DataSet(117266, _COCO_2017),
    ('instances_train2014', False): DataSet(82783, _COCO_2014),
    ('instances_train2014', True): DataSet(82081, _COCO_2014),
}


_UNKNOWN = DataSet(0, _COCO_2017)


class ImageSize(NamedTuple):
    """What a config makes of an image, padding included.

    Attributes:
        typical: Pixels of one with sides of 4 to 3.
        largest: Pixels of the largest that can be.
    """

    typical: float
    largest: float


class Speed(NamedTuple):
    """A measured training speed.

    Attributes:
        img_per_s: Images/s of one device.
        source: Where it comes from, in words.
    """

    img_per_s: float
    source: str


def read_training(
    cfg: Config,
    images: int | None = None,
    image_kb: float | None = None,
    images_per_core: float | None = None,
) -> Training:
    """Read from a config what a training is.

    Args:
        cfg: The config.
        images: In an epoch, where the data set is none of ``DATA_SETS``.
        image_kb: Thousands of bytes of a file, on the mean; by default the data set's, or COCO's.
        images_per_core: That a core reads; by default what was measured for the config's task.

    Raises:
        InputError: If the config does not train by epochs, or its data set is unknown.
    """
    loader = cfg.get('train_dataloader') or {}
    epochs = (cfg.get('train_cfg') or {}).get('max_epochs')
    if not epochs or 'batch_size' not in loader:
        raise InputError('the config has no train_cfg.max_epochs or train_dataloader.batch_size')
    known = _find_data_set(loader['dataset'])
    if images is None:
        if known is None:
            raise InputError("the size of the config's data set is unknown: give --num-images N")
        images = known.images
    optimizer = cfg.optim_wrapper.optimizer
    scaling = cfg.get('auto_scale_lr') or {}
    warmups = [s for s in cfg.get('param_scheduler') or [] if s['type'] == 'LinearLR']
    return Training(
        images=images,
        epochs=epochs,
        batch_size=loader['batch_size'],
        drop_last=loader.get('drop_last', False),
        lr=optimizer.lr,
        base_batch_size=scaling.get('base_batch_size') if scaling.get('enable') else None,
        warmup_steps=max((s['end'] for s in warmups if not s.get('by_epoch', True)), default=0),
        workers=loader.get('num_workers', 0),
        file_bytes=(known or _UNKNOWN).file_bytes if image_kb is None else 1000 * image_kb,
        images_per_core=IMAGES_PER_CORE[find_task(cfg).name]
        if images_per_core is None
        else images_per_core,
    )


def _find_data_set(dataset: Mapping) -> DataSet | None:
    ann_file = Path(dataset.get('ann_file') or '').stem
    filters = dataset.get('filter_cfg') or {}
    leaves_out = bool(dataset.get('filter_empty') or filters.get('filter_empty_gt'))
    folder = Path(dataset.get('data_root') or '').name
    return DATA_SETS.get((ann_file, leaves_out)) or DATA_SETS.get(folder)


def read_image_size(cfg: Config) -> ImageSize:
    """Read from the training pipeline to which size it brings images.

    Raises:
        InputError: If no step of it says so.
    """
    pipeline = cfg.train_dataloader.dataset.get('pipeline') or []
    if not find_task(cfg).detects:
        sizes = [step['size'] for step in pipeline if 'size' in step]
        if sizes:
            height, width = sizes[-1] if isinstance(sizes[-1], Sequence) else [sizes[-1]] * 2
            return ImageSize(height * width, height * width)
    padded = [step['size'] for step in pipeline if step['type'] == 'Pad' and step.get('size')]
    if padded:
        return ImageSize(math.prod(padded[-1]), math.prod(padded[-1]))
    for step in edit.iterate_dicts(pipeline):
        scales = step.get('scales') or step.get('scale')
        if scales and 'Resize' in step['type']:
            scales = [scales] if isinstance(scales[0], int) else scales
            if not step.get('keep_ratio', True):
                areas = [w * h for w, h in scales]
                return ImageSize(sum(areas) / len(areas), max(areas))
            return _size_at_scales([(max(s), min(s)) for s in scales])
    raise InputError('no step of train_dataloader.dataset.pipeline says how large images are')


def _size_at_scales(scales: Sequence[tuple[int, int]]) -> ImageSize:
    """Return the pixels where the ratio is kept: a long and a short side bound the image."""
    long = sum(long for long, _ in scales) / len(scales)
    short = min(sum(short for _, short in scales) / len(scales), long / _PHOTO_RATIO)
    return ImageSize(
        _padded(short) * _padded(short * _PHOTO_RATIO),
        max(_padded(long) * _padded(short) for long, short in scales),
    )


def _padded(side: float) -> int:
    return math.ceil(side / _DIVISOR) * _DIVISOR


def count_model(cfg: Config, size: ImageSize) -> Footprint:
    """Build a config's model, without weights of its own, and count what it occupies in training.

    Frozen stages stay frozen. Nothing is downloaded. Of a detector whose loss cannot be computed on
    made-up images, what it keeps is counted without the loss.

    Args:
        cfg: The config; it is not changed.
        size: Of its images. A detector is counted on small ones and scaled by their area, which
            fits convolutions; a fixed number of proposals or queries is scaled with them.

    Raises:
        InputError: If the model cannot be built.
    """
    cfg = copy.deepcopy(cfg)
    edit.drop_pretrained(cfg)
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    count = _kept_by_detector if find_task(cfg).detects else _kept_by_classifier
    once, per_image, model = count(cfg.model, find_precision(cfg), size)
    optimizer = cfg.optim_wrapper.optimizer['type']
    return Footprint(
        parameters=count_parameters(model),
        trainable=sum(p.numel() for p in model.parameters() if p.requires_grad),
        buffers=sum(b.numel() for b in model.buffers()),
        optimizer_values=_OPTIMIZER_VALUES.get(optimizer, 2),
        averaged=any(hook['type'] == 'EMAHook' for hook in cfg.get('custom_hooks') or []),
        kept_per_image=per_image,
        kept_once=once,
    )


def find_precision(cfg: Config) -> str:
    """Return in which precision a config trains on a GPU: ``fp32``, ``bf16`` or ``fp16``."""
    wrapper = cfg.optim_wrapper
    if wrapper.get('type') != 'AmpOptimWrapper':
        return 'fp32'
    return {'bfloat16': 'bf16'}.get(wrapper.get('dtype'), 'fp16')


def _build(model_cfg: Mapping) -> BaseModel:
    with config_errors():
        return MODELS.build(model_cfg).train()


def _kept_by_classifier(
    model_cfg: Mapping, precision: str, size: ImageSize
) -> tuple[float, float, nn.Module]:
    side = round(math.sqrt(size.largest))
    kept = []
    with FakeTensorMode():  # shapes without data: any size costs nothing
        model = _build(model_cfg)
        own = [*model.parameters(), *model.buffers()]
        for batch in (1, 2):
            x = torch.rand(batch, 3, side, side).to(memory_format=torch.channels_last)

            def forward(x: torch.Tensor = x) -> torch.Tensor:
                with autocast('cpu', precision):
                    return model(x, mode='tensor')

            kept.append(kept_bytes(forward, own))
    return *_line_through(*kept), model


def _kept_by_detector(
    model_cfg: Mapping, precision: str, size: ImageSize
) -> tuple[float, float, nn.Module]:
    model = _build(model_cfg)
    own = [*model.parameters(), *model.buffers()]
    side = _DETECTOR_SIZE

    def losses(batch: int) -> dict:
        shapes, boxes = [[3, side, side]] * batch, [_BOXES] * batch
        data = demo_mm_inputs(batch, shapes, boxes, num_classes=2, with_mask=True)
        data = model.data_preprocessor(data, True)
        with autocast('cpu', precision):
            return model(**data, mode='loss')

    def raw_outputs(batch: int) -> object:
        with autocast('cpu', precision):
            return model(torch.rand(batch, 3, side, side), mode='tensor')

    try:
        kept = [kept_bytes(partial(losses, batch), own) for batch in (1, 2)]
    except Exception:  # some losses want a training under way, some real images
        kept = [kept_bytes(partial(raw_outputs, batch), own) for batch in (1, 2)]
    once, per_image = _line_through(*kept)
    return once, per_image * size.largest / side**2, model


def _line_through(at_one: float, at_two: float) -> tuple[float, float]:
    """Return what does not grow with the batch, and what each image adds."""
    return max(0.0, 2 * at_one - at_two), at_two - at_one


def read_speed(path: str | Path, names: Sequence[str], batch: int, typical: float) -> Speed:
    """Read a training speed from a CSV file that ``tools/benchmark.py`` wrote.

    Of several rows, the nearest in image size and batch serves; a speed at another size is scaled
    by the images' area.

    Args:
        path: The file.
        names: Under which the model may stand in it, the best first.
        batch: Images of one GPU in a step.
        typical: Pixels of an image.

    Raises:
        MissingFileError: If there is no such file.
        InputError: If it has no speed for the model.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f'no measured speeds at {path.resolve()}')
    lines = path.read_text(encoding='utf-8').splitlines()
    header = dict(line[2:].split(': ', 1) for line in lines if line[:2] == '# ' and ': ' in line)
    table = csv.DictReader(line for line in lines if not line.startswith('#'))
    rows = [row for row in table if row.get('training_img_per_s') and row.get('size')]
    name = next((n for n in names if any(row.get('model') == n for row in rows)), None)
    if name is None:
        known = ', '.join(dict.fromkeys(row.get('model') or '' for row in rows)) or 'no model'
        raise InputError(f'{path} has no training speed of {" or ".join(names)}, but of {known}')

    def distance(row: Mapping[str, str]) -> tuple[float, float]:
        area = int(row['size']) ** 2
        own_batch = int(row.get('batch_size') or batch)
        return abs(math.log(area / typical)), abs(math.log(own_batch / batch))

    row = min((row for row in rows if row['model'] == name), key=distance)
    size = int(row['size'])
    source = f'{name} at {size} pixels, batch {row.get("batch_size", "?")}, {path.name}'
    device = header.get('device', '?')
    on = header.get('machine', device) if device == 'cpu' else device
    source += f': {on}, {header.get("precision", "?")}, {header.get("date", "?")}'
    factor = size**2 / typical
    if not math.isclose(factor, 1):
        source += f"; scaled by {factor:.3g}, the images' area"
    return Speed(float(row['training_img_per_s']) * factor, source)
