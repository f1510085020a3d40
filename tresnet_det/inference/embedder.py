"""Images as vectors: features of a backbone, and how much of a dataset's labels is in them.

:class:`Embedder` gives the features, :func:`find_labelled` the images and boxes of a dataset that
have labels, :func:`find_neighbors` what is alike and :func:`probe` the judgement.
"""

import functools
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mmdet.structures import DetDataSample

from ..checkpoints.formats import find_arch, to_ours
from ..checkpoints.hub import HUB_PREFIX, download
from ..checkpoints.load import Checkpoint, LoadReport, load_backbone_weights, read_checkpoint
from ..engine import config as edit
from ..engine.checkpoint_hook import RECORD
from ..engine.work_dir import find_checkpoint, find_run_config
from ..errors import InputError
from ..evaluation.label_measures import average_precisions
from ..models import TResNet
from ..readers.data import layout_sources, read_data
from ..readers.findings import Findings
from ..readers.kinds import first_task
from ..readers.layouts import find_layout
from ..readers.split import Split
from .inputs import ImageInput, InputImage, Report, Source, read_given, read_images
from .pipeline import Pipeline, build_classification
from .predictor import BATCH_SIZE, Predictor

SIDE = 224  # pixels
MOST_PROBED = 10_000  # images or boxes that a probe takes
FOLDS = 5
BLOCK = 128  # rows that are compared with all at once


class Embedder(Predictor):
    """A backbone that turns images into vectors: its last output, averaged over all places.

    A classifier whose config is known sees an image through its own test pipeline. Else, and for a
    detector, it is resized to a square, whatever its sides: nothing is cropped.

    Args:
        weights: A work directory, a checkpoint file in one, a file of a TResNet in any format
            that is known, whose ``arch`` is read from it, or ``timm://NAME``.
        device: As of :class:`Predictor`.
        img_size: Side of the square, in pixels; None for ``SIDE``, or a classifier's pipeline.

    Raises:
        InputError: As of :class:`Predictor`.

    Examples:
        >>> embedder = Embedder('timm://tresnet_m.miil_in1k')
        >>> embedder(['street.jpg', 'beach.jpg']).shape
        (2, 2048)
    """

    def __init__(
        self, weights: str, device: str | None = None, img_size: int | None = None
    ) -> None:
        path = Path(download(weights) if weights.startswith(HUB_PREFIX) else weights)
        folder = path if path.is_dir() else path.parent
        is_run = path.is_dir() or (folder / RECORD).is_file()
        self._only_backbone = not (is_run and any(folder.glob('*.py')))
        if not self._only_backbone:
            cfg = edit.load_config(find_run_config(folder))
        else:
            found = read_checkpoint(find_checkpoint(path))
            arch = find_arch(to_ours(found.weights, found.source)[1])
            cfg = edit.load_config('tresnet_det::imagenet_tresnet_m.py')
            cfg.model.backbone.arch = arch
            with torch.device('meta'):
                cfg.model.head.in_channels = TResNet(arch).out_channels[-1]
        super().__init__(cfg, path, device)
        self._has_masks = False
        if img_size or self._only_backbone or self.task == 'detection':
            steps = build_classification([dict(type='Resize', size=[img_size or SIDE] * 2)])
            prepare = _as_detectors_take(steps) if self.task == 'detection' else steps.prepare
            self._pipeline = Pipeline(self._pipeline.read, prepare)

    def __call__(  # type: ignore[override]  # features are no results
        self, images: Sequence[ImageInput], *, batch_size: int = BATCH_SIZE, bgr: bool = False
    ) -> np.ndarray:
        """Return the features of images, ``(N, C)`` of float32.

        Args:
            images: See :func:`.inputs.read_given`.
            batch_size: Most images at once.
            bgr: Whether the channels of arrays are in OpenCV's order.

        Raises:
            InputError: One of them cannot be read.
        """
        arrays = [image.pixels for image in read_given(images, self.read, bgr)]
        return torch.stack(self.predict(arrays, batch_size)).numpy()

    def _load(self, model: torch.nn.Module, weights: Checkpoint) -> LoadReport:
        return (load_backbone_weights if self._only_backbone else super()._load)(model, weights)

    def _apply(self, batch: dict) -> list[torch.Tensor]:
        """Return the features of each image, ``(C,)`` of float32."""
        inputs = self.model.data_preprocessor(batch, False)['inputs']
        outputs = self.model.backbone(inputs)
        last = outputs if isinstance(outputs, torch.Tensor) else outputs[-1]
        return list(last.float().mean((2, 3)))


def _as_detectors_take(steps: Pipeline) -> Callable[[np.ndarray], dict[str, Any]]:
    """Detectors get BGR, and a data sample that their preprocessor writes into."""
    return lambda image: dict(
        inputs=steps.prepare(image)['inputs'].flip(0), data_samples=DetDataSample()
    )


class Labelled(NamedTuple):
    """What has labels in a split: images, or the boxes of a detection dataset.

    Attributes:
        split: ``'train'``, ``'val'`` or ``'test'``.
        items: By name the file and the box in it (x1 y1 x2 y2 in pixels, None for the whole
            image). A box is called ``FILE#NUMBER``, counted in the split.
        labels: ``(N,)``, class numbers; or ``(N, classes)`` with 1, 0 and -1 for unknown.
        classes: Their names.
    """

    split: str
    items: dict[str, tuple[str, np.ndarray | None]]
    labels: np.ndarray
    classes: tuple[str, ...]

    def read(self, read: Callable[[str], np.ndarray], report: Report) -> Iterator[InputImage]:
        """Read one after the other, as :func:`read_images` does."""
        whole = functools.lru_cache(1)(read)

        def read_item(name: str) -> np.ndarray:
            file, box = self.items[name]
            image = whole(file)
            if box is None:
                return image
            x1, y1, x2, y2 = box
            return image[y1:y2, x1:x2]

        return read_images([Source(name, 'image') for name in self.items], read_item, report)

    def describe(self, row: int) -> str:
        """Return the names of the classes of an item."""
        label = self.labels[row]
        numbers = [label] if label.ndim == 0 else np.flatnonzero(label == 1)
        return ';'.join(self.classes[number] for number in numbers)


def find_labelled(folder: str) -> list[Labelled]:
    """Return what has labels in the splits of a folder, of any layout that a training takes.

    Raises:
        InputError: It is none, or there is an error in it.
    """
    layout = find_layout(folder, None)
    task = first_task(layout.kind)
    splits = read_data(layout_sources(layout, tuple(layout.splits), task), Findings(strict=True))
    return [_take_labels(split) for split in splits]


def _take_labels(split: Split) -> Labelled:
    if split.boxes is None:
        labels = split.matrix() if split.source.several else split.single_labels()
        rows = np.arange(len(labels)) if split.source.several else np.flatnonzero(labels >= 0)
        items: dict = {path: (path, None) for path in map(split.path, rows.tolist())}
        return Labelled(split.name, items, labels[rows], split.classes)
    objects = np.flatnonzero(split.usable)
    objects = objects[np.argsort(split.rows[objects], kind='stable')]  # an image is read once
    start = np.maximum(np.floor(split.boxes.xywh[:, :2]), 0)
    end = np.maximum(np.ceil(split.boxes.xywh[:, :2] + split.boxes.xywh[:, 2:]), start + 1)
    boxes = np.hstack([start, end]).astype(int)
    paths = {number: split.path(int(split.rows[number])) for number in objects.tolist()}
    items = {f'{path}#{number}': (path, boxes[number]) for number, path in paths.items()}
    return Labelled(split.name, items, split.labels[objects], split.classes)


def find_neighbors(
    features: np.ndarray, count: int, queries: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Find the most similar by cosine, the first rows of equal ones; blockwise, in bounded memory.

    Args:
        features: ``(N, C)``, also on a disk.
        count: How many; fewer where there are no more.
        queries: ``(Q, C)``; None for the features themselves, each without itself.

    Returns:
        Rows of ``features`` and cosines, both ``(Q, K)``, the most similar first.
    """
    sought = features if queries is None else queries
    count = min(count, len(features) - (queries is None))
    rows, cosines = np.zeros((len(sought), count), int), np.zeros((len(sought), count), np.float32)
    lengths = _lengths(features)
    for start in range(0, len(sought), BLOCK):
        block = sought[start : start + BLOCK]
        alike = block @ features.T / lengths / _lengths(block)[:, None]
        if queries is None:
            alike[np.arange(len(block)), start + np.arange(len(block))] = -2
        best = np.sort(np.argpartition(-alike, max(count - 1, 0), 1)[:, :count], 1)
        order = np.argsort(-np.take_along_axis(alike, best, 1), 1, kind='stable')
        part = slice(start, start + len(block))
        rows[part] = np.take_along_axis(best, order, 1)
        cosines[part] = np.take_along_axis(alike, rows[part], 1).clip(-1, 1)
    return rows, cosines


def _lengths(features: np.ndarray) -> np.ndarray:
    return np.sqrt(np.einsum('nc,nc->n', features, features)).clip(np.finfo(np.float32).tiny)


def probe(features: np.ndarray, labels: np.ndarray, splits: Iterable[str]) -> str:
    """Judge features by a logistic regression on them, in one line.

    It is trained on the split ``train`` and measured on ``val``, else ``test``. Without these, by
    cross-validation, of which the standard deviation over its folds is given. Next to it are what
    the most frequent class would reach (mAP: equal scores), and the nearest neighbour. Of many
    rows, `MOST_PROBED` are taken at random, always the same.

    Args:
        features: ``(N, C)``.
        labels: ``(N,)``, class numbers, for top-1; or ``(N, classes)`` with 1, 0 and -1 for
            unknown, for mAP by one classifier for each class.
        splits: ``N`` names.

    Raises:
        InputError: There is too little to learn from.
    """
    kept = np.sort(np.random.default_rng(0).permutation(len(labels))[:MOST_PROBED])
    features, labels, roles = features[kept], labels[kept], np.array(list(splits))[kept]
    measured = next((role for role in ('val', 'test') if role in roles), '')
    if 'train' in roles and measured:
        rounds = [(np.flatnonzero(roles == 'train'), np.flatnonzero(roles == measured))]
        way = f'trained on {len(rounds[0][0])} of train, measured on {len(rounds[0][1])}'
    else:
        rounds = _fold(labels)
        way = f'{len(rounds)}-fold'
    found = np.array([_judge(features, labels, *each) for each in rounds]) * 100
    if len(rounds) > 1:
        way += f', ±{found[:, 0].std():.1f}'
    linear, chance, nearest = found.mean(0)
    metric = 'top-1' if labels.ndim == 1 else 'mAP'
    way += f' of {measured}' * (len(rounds) == 1)
    return (
        f'linear probe: {linear:.1f} % {metric} ({way}); chance {chance:.1f} %; '
        f'1-nearest neighbour {nearest:.1f} %'
    )


def _fold(labels: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Divide for cross-validation, by class where an item has one."""
    from sklearn.model_selection import KFold, StratifiedKFold  # takes its time

    single = labels.ndim == 1
    count = min(FOLDS, np.bincount(labels).max() if single else len(labels))
    if count < 2:
        raise InputError('a probe needs at least two images or boxes of a class')
    folds = (StratifiedKFold if single else KFold)(count, shuffle=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of classes that are not in each fold
        return list(folds.split(labels, labels))


def _judge(
    features: np.ndarray, labels: np.ndarray, learnt: np.ndarray, measured: np.ndarray
) -> tuple[float, float, float]:
    """Return top-1 or mAP, in [0, 1], of a linear classifier, by chance, and of the neighbour."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(features[learnt])
    x, unseen = scaler.transform(features[learnt]), scaler.transform(features[measured])
    known, truth = labels[learnt], labels[measured]
    alike, _ = find_neighbors(features[learnt], 1, features[measured])
    model, nearest = LogisticRegression(max_iter=1000), known[alike[:, 0]]
    if labels.ndim == 1:
        if len(np.unique(known)) < 2:
            raise InputError('a probe needs at least two classes to learn from')
        right = model.fit(x, known).predict(unseen) == truth
        most = np.bincount(known).argmax()
        return right.mean(), (truth == most).mean(), (nearest == truth).mean()
    if not (truth == 1).any():
        raise InputError('no label is there in any image that a probe is measured on')
    scores = np.zeros(truth.shape)
    for column in range(labels.shape[1]):
        rows = known[:, column] >= 0
        if len(np.unique(known[rows, column])) == 2:
            model.fit(x[rows], known[rows, column])
            scores[:, column] = model.decision_function(unseen)
    several = scores, np.zeros(truth.shape), nearest.astype(float)
    linear, chance, neighbor = (np.nanmean(average_precisions(each, truth)) for each in several)
    return linear, chance, neighbor
