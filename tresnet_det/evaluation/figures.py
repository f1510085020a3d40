"""Images of a detector's predictions beside the truth, and what other images share with them.

Figures are made by matplotlib's objects, never by pyplot: no global state, no window, no backend
to choose, so that it works in a training process and in a notebook alike.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from ..datasets.decode import decode_rgb, to_pillow
from ..errors import InputError

# Okabe and Ito's palette, told apart with every kind of colour vision; and a line style each.
RIGHT = {'edgecolor': '#56B4E9', 'linestyle': '-'}
WRONG: dict[str, Any] = {'edgecolor': '#E69F00', 'linestyle': (0, (3, 1.5))}
CROWD = {'edgecolor': '#F0F0F0', 'linestyle': ':'}
DPI = 110


def draw_predictions(
    image_paths: Sequence[str | Path],
    predictions: Sequence[Mapping[str, Any]],
    ground_truth: Sequence[Mapping[str, Any]] | None,
    class_names: Sequence[str],
    out_path: str | Path,
    score_thr: float = 0.3,
    iou_thr: float = 0.5,
    limit: int = 12,
    title: str | None = None,
) -> None:
    """Draw a sheet of images: the truth at the left, the prediction at the right of each.

    A prediction is right when an object of its class overlaps it by ``iou_thr``; the best score
    takes an object first and each object is taken once, as in COCO's evaluation.

    Args:
        image_paths: Image files.
        predictions: One an image: ``bboxes`` (N, 4) as x1 y1 x2 y2 in the image's pixels,
            ``scores`` (N,) in [0, 1] and ``labels`` (N,); a dict or an ``InstanceData``.
        ground_truth: One an image: ``bboxes`` (M, 4), ``labels`` (M,) and, where there are
            crowds, ``iscrowd`` (M,). None draws the predictions alone.
        class_names: Name of each label.
        out_path: The PNG to write.
        score_thr: Predictions with a lower score are left out.
        iou_thr: Overlap (intersection over union) from which a prediction is right.
        limit: At most this many images, the first ones.
        title: What the sheet shows; the line below it counts images and objects.

    Raises:
        InputError: No image, one that does not decode, or lists of different lengths.
        MissingFileError: An image is not there.
    """
    _check_lengths(image_paths, predictions, ground_truth)
    pairs = []
    for i, path in enumerate(image_paths[:limit]):
        truth = None if ground_truth is None else _as_arrays(ground_truth[i])
        found = _as_arrays(predictions[i], score_thr)
        pairs.append((Path(path), open_image(path), truth, found))

    heading = title or ('Predictions' if ground_truth is None else 'Truth and predictions')
    figure, axes = _sheet([image for _, image, _, _ in pairs], 1 if ground_truth is None else 2)
    counts = np.zeros(3, dtype=int)  # objects, found, wrong
    for row, (path, image, truth, found) in zip(axes, pairs, strict=True):
        hit, taken = _match(truth, found, iou_thr)
        if truth is not None:
            counts += (int((~truth['crowd']).sum()), int(taken.sum()), int((~hit).sum()))
            _panel(row[0], image, f'truth: {shorten(path.name)}')
            _boxes(row[0], image, truth, taken, class_names)
        _panel(row[-1], image, 'prediction' if truth is not None else shorten(path.name))
        _boxes(row[-1], image, found, hit, class_names)
    _head_and_legend(
        figure, heading, len(pairs), None if truth is None else counts, score_thr, iou_thr
    )
    FigureCanvasAgg(figure).print_png(str(out_path))


def _check_lengths(paths: Sequence, predictions: Sequence, truth: Sequence | None) -> None:
    if not len(paths):
        raise InputError('There is no image to draw: give at least one path.')
    lengths = [len(paths), len(predictions), len(paths) if truth is None else len(truth)]
    if len(set(lengths)) > 1:
        raise InputError(
            'Images, predictions and ground truth must be equally many, but there are '
            f'{lengths[0]}, {lengths[1]} and {lengths[2]}.'
        )


def open_image(path: str | Path, longest: int = 1000) -> tuple[np.ndarray, float]:
    """An image (H, W, 3) as uint8 and the factor by which it was made smaller.

    Args:
        path: The file; it is turned as its EXIF header says, as boxes are in the turned image.
        longest: Pixels of the longer side that are left, at most.

    Raises:
        MissingFileError: It is not there.
        InputError: It does not decode.
    """
    image = to_pillow(decode_rgb(path))
    factor = min(1.0, longest / max(image.size))
    if factor < 1:
        image = image.resize([max(1, round(side * factor)) for side in image.size])
    return np.asarray(image), factor


def _as_arrays(item: Mapping[str, Any], score_thr: float = 0.0) -> dict[str, np.ndarray]:
    values: dict[str, Any] = {}
    for key in ('bboxes', 'labels', 'scores', 'iscrowd'):
        value: Any = item[key] if key in item else None  # noqa: SIM401  (InstanceData's get differs)
        values[key] = value.detach().cpu().numpy() if hasattr(value, 'detach') else value
    boxes = np.asarray(values['bboxes'], dtype=float).reshape(-1, 4)
    crowd = values['iscrowd'] if values['iscrowd'] is not None else np.zeros(len(boxes))
    arrays = {
        'boxes': boxes,
        'labels': np.asarray(values['labels'], dtype=int).reshape(-1),
        'crowd': np.asarray(crowd, dtype=bool).reshape(-1),
    }
    if values['scores'] is None:
        return arrays
    scores = np.asarray(values['scores'], dtype=float).reshape(-1)
    order = np.argsort(-scores, kind='stable')
    order = order[scores[order] >= score_thr]
    return {**{key: value[order] for key, value in arrays.items()}, 'scores': scores[order]}


def _match(
    truth: dict[str, np.ndarray] | None, found: dict[str, np.ndarray], iou_thr: float
) -> tuple[np.ndarray, np.ndarray]:
    """Which predictions (N,) are right and which objects (M,) are found, as booleans."""
    if truth is None:
        return np.ones(len(found['boxes']), dtype=bool), np.zeros(0, dtype=bool)
    hit = np.zeros(len(found['boxes']), dtype=bool)
    taken = np.zeros(len(truth['boxes']), dtype=bool)
    for n, (box, label) in enumerate(zip(found['boxes'], found['labels'], strict=True)):
        overlap = _iou(box, truth['boxes'])
        free = (truth['labels'] == label) & ~taken & ~truth['crowd'] & (overlap >= iou_thr)
        if free.any():
            m = int(np.argmax(np.where(free, overlap, -1)))
            hit[n] = taken[m] = True
    return hit, taken


def _iou(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of one box (4,) with others (M, 4)."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    common = np.clip(high - low, 0, None).prod(axis=1)
    areas = (others[:, 2:] - others[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod()
    return common / np.maximum(areas - common, 1e-12)


def _sheet(
    images: Sequence[tuple[np.ndarray, float]], panels: int
) -> tuple[Figure, list[list[Axes]]]:
    """An empty figure with ``panels`` axes for each image, as wide as the images need."""
    sides = [image.shape[:2] for image, _ in images]
    small = all(is_small(image) for image, _ in images)
    width = 2.6 if small else 4.6  # inches of one panel
    groups = min(len(images), (3 if small else 2) * (2 if panels == 1 else 1))
    lines = math.ceil(len(images) / groups)
    height = width * min(1.5, float(np.median([h / w for h, w in sides])))
    size = (groups * panels * width, lines * (height + 0.3) + 1.2)
    size = (max(size[0], 6.5), size[1])  # room for the title
    figure = Figure(figsize=size, dpi=DPI)
    grid = figure.add_gridspec(
        lines, groups, left=0.01, right=0.99, top=1 - 0.95 / size[1], bottom=0.5 / size[1],
        wspace=0.05, hspace=0.3 / height,
    )  # fmt: skip
    axes = []
    for i in range(len(images)):
        pair = grid[i // groups, i % groups].subgridspec(1, panels, wspace=0.02)
        axes.append([figure.add_subplot(pair[0, j]) for j in range(panels)])
    return figure, axes


def _panel(axes: Axes, image: tuple[np.ndarray, float], title: str) -> None:
    show_image(axes, image[0])
    axes.set_title(title, fontsize=8, pad=2, loc='left')
    axes.set_anchor('NW')  # images of a row line up at the top, those of a pair at the left


def show_image(axes: Axes, pixels: np.ndarray) -> None:
    """Draw an image (H, W, 3) of uint8, a small one with pixels that can be counted."""
    axes.imshow(pixels, interpolation='nearest' if is_small(pixels) else 'antialiased')
    axes.set_axis_off()


def is_small(pixels: np.ndarray) -> bool:
    """Whether an image (H, W, 3) can be seen well on little room."""
    return max(pixels.shape[:2]) <= 256


def _boxes(
    axes: Axes,
    image: tuple[np.ndarray, float],
    objects: dict[str, np.ndarray],
    right: np.ndarray,
    class_names: Sequence[str],
) -> None:
    pixels, factor = image
    boxes = objects['boxes'] * factor
    sizes = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    taken: list[tuple[float, float]] = []  # where names stand already
    for n in np.argsort(-sizes):  # small ones on top
        x1, y1, x2, y2 = boxes[n]
        look = CROWD if objects['crowd'][n] else RIGHT if right[n] else WRONG
        box = Rectangle((x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1, fill=False, linewidth=1.6, **look)
        box.set_path_effects([withStroke(linewidth=2.8, foreground='black')])
        axes.add_patch(box)
        label = objects['labels'][n]
        name = class_names[label] if 0 <= label < len(class_names) else f'label {label}'
        if 'scores' in objects:
            name += f' {objects["scores"][n]:.2f}'
        elif objects['crowd'][n]:
            name += ' (crowd)'
        x, y, side = _place_of_name(boxes[n], pixels.shape[:2], taken)
        taken.append((x, y))
        axes.text(
            x, y, name, fontsize=6.5, color='black', va=side, clip_on=True,
            bbox={'facecolor': look['edgecolor'], 'edgecolor': 'none', 'pad': 0.8, 'alpha': 0.85},
        )  # fmt: skip


def _place_of_name(
    box: np.ndarray, shape: Sequence[int], taken: Sequence[tuple[float, float]]
) -> tuple[float, float, str]:
    """Where a box's name stands, x and y, and which side of it is there.

    Above the box, or below it where another name is: several classes may be found at one place.
    """
    height, width = shape
    x1, y1, _, y2 = box
    x = min(max(x1, 0), 0.9 * width)
    room_above, room_below = y1 >= 0.06 * height, y2 <= 0.94 * height
    places = [
        (x, max(y1, 0), 'bottom' if room_above else 'top'),
        (x, min(y2, height), 'top' if room_below else 'bottom'),
    ]
    for place in places:
        near = (abs(place[0] - i) < 0.12 * width and abs(place[1] - j) < 0.05 * height
                for i, j in taken)  # fmt: skip
        if not any(near):
            return place
    return places[0]


def _head_and_legend(
    figure: Figure,
    heading: str,
    images: int,
    counts: np.ndarray | None,
    score_thr: float,
    iou_thr: float,
) -> None:
    line = f'{images} image{"s" * (images > 1)}, predictions with score {score_thr:g} or more'
    handles = [Line2D([], [], color=RIGHT['edgecolor'], linewidth=2, label='prediction')]
    if counts is not None:
        line += f': {counts[1]} of {counts[0]} objects found, {counts[2]} '
        line += f'prediction{"" if counts[2] == 1 else "s"} wrong'
        looks: tuple[tuple[dict[str, Any], str], ...] = (
            (RIGHT, f'found: same class, overlap (IoU) {iou_thr:g} or more'),
            (WRONG, 'left: missed object, right: wrong prediction'),
            ({**CROWD, 'edgecolor': '#808080'}, 'crowd (not counted)'),
        )
        handles = [
            Line2D([], [], color=look['edgecolor'], linestyle=look['linestyle'], linewidth=2,
                   label=label)
            for look, label in looks
        ]  # fmt: skip
    add_head_and_legend(figure, heading, line, handles)


def add_head_and_legend(figure: Figure, heading: str, line: str, handles: Sequence[Artist]) -> None:
    """Write the title and a line below it into the top 0.7 inches, a legend into the last 0.4."""
    height = figure.get_figheight()
    figure.text(0.01, 1 - 0.3 / height, heading, fontsize=13, weight='bold', va='center')
    figure.text(0.01, 1 - 0.55 / height, line, fontsize=9, va='center')
    figure.legend(
        handles=handles, loc=(0.01, 0.1 / height), ncols=len(handles), fontsize=8, frameon=False
    )


def shorten(name: str, longest: int = 32) -> str:
    """Keep the end of a file's name, which tells it from others."""
    return name if len(name) <= longest else f'...{name[3 - longest :]}'
