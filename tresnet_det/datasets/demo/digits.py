"""Demo detection data, made on the spot: real handwritten digits on real photos, as COCO.

Nothing is downloaded and nothing is shipped, see :mod:`tresnet_det.datasets.demo.images`. A digit
sample is used either for training or for validation, never for both; the two photos are
shared, so the validation measures digits that were not seen on backgrounds that may have been.
"""

import json
import os
from pathlib import Path

import numpy as np

from ...errors import InputError
from .folder import check_content, make_folder
from .images import (
    LICENSES,
    Sources,
    background,
    bright_colour,
    check_size_and_seed,
    digit_alpha,
    load_sources,
    paste,
    split_samples,
    write_png,
)

VERSION = '1.0'
SPLITS = ('train2017', 'val2017')
DIGIT_SIDE = (0.21, 0.58)  # longest side of a digit, as a share of the image's side
MAX_IOU = 0.05
DESCRIPTION = (
    'Demo data: handwritten digits on photos. The digit samples of train2017 and val2017 are '
    'disjoint; the two background photos are shared by both.'
)


def make_demo_data(
    out_dir: str | os.PathLike,
    num_train: int = 1000,
    num_val: int = 200,
    size: int = 96,
    seed: int = 0,
) -> Path:
    """Make the demo data in COCO's own layout, so that ``out_dir`` serves as a ``data_root``.

    The same arguments give the same bytes. The folder appears complete or not at all, so several
    processes may ask for it at once; complete data of the same arguments is left as it is.

    Args:
        out_dir: Folder to make: ``annotations/instances_{train,val}2017.json``, ``train2017/`` and
            ``val2017/`` with PNG images.
        num_train: Number of training images.
        num_val: Number of validation images.
        size: Side of the square images in pixels, 32 to 1024.
        seed: Any non-negative number.

    Returns:
        ``out_dir`` as a path.

    Raises:
        InputError: An argument is out of range, or ``out_dir`` holds something else.
    """
    _check_arguments(num_train, num_val, size, seed)
    info = {
        'description': DESCRIPTION,
        'version': VERSION,
        'seed': seed,
        'num_train': num_train,
        'num_val': num_val,
        'size': size,
    }

    def check(folder: Path) -> None:
        for split in SPLITS:
            check_content(folder, info, f'annotations/instances_{split}.json', split)

    return make_folder(out_dir, check, lambda folder: _write_all(folder, info))


def _check_arguments(num_train: int, num_val: int, size: int, seed: int) -> None:
    for name, value in (('num_train', num_train), ('num_val', num_val)):
        if value < 1:
            raise InputError(f'demo data: {name} is {value}; give at least 1')
    check_size_and_seed(size, seed)


def _write_all(root: Path, info: dict) -> None:
    sources = load_sources()
    pools = split_samples(len(sources.digits), info['seed'])
    counts = (info['num_train'], info['num_val'])
    (root / 'annotations').mkdir()
    for number, (split, pool, count) in enumerate(zip(SPLITS, pools, counts, strict=True)):
        content = {
            'info': info,
            'licenses': LICENSES,
            'categories': [
                {'id': digit + 1, 'name': str(digit), 'supercategory': 'digit'}
                for digit in range(10)
            ],
            'images': [],
            'annotations': [],
        }
        (root / split).mkdir()
        for index in range(count):
            # one generator an image: image 7 is the same however many are made
            rng = np.random.default_rng([info['seed'], number, index])
            image, boxes = make_image(rng, sources, pool, info['size'])
            _add_image(content, root / split, image, boxes)
        file = root / f'annotations/instances_{split}.json'
        file.write_text(json.dumps(content, separators=(',', ':')))


def _add_image(content: dict, folder: Path, image: np.ndarray, boxes: list[tuple]) -> None:
    """Write one image, RGB ``(H, W, 3)``, and append its entries to the COCO content."""
    image_id = len(content['images']) + 1
    file_name = f'{image_id:06d}.png'
    write_png(folder / file_name, image)
    height, width = image.shape[:2]
    content['images'].append(
        {'id': image_id, 'file_name': file_name, 'width': width, 'height': height}
    )
    for (x, y, w, h), digit, sample in boxes:
        content['annotations'].append(
            {
                'id': len(content['annotations']) + 1,
                'image_id': image_id,
                'category_id': digit + 1,
                'bbox': [x, y, w, h],
                'area': w * h,
                'iscrowd': 0,
                'sample': sample,  # index in load_digits(): shows that the splits are disjoint
            }
        )


def make_image(
    rng: np.random.Generator, sources: Sources, pool: np.ndarray, size: int
) -> tuple[np.ndarray, list[tuple]]:
    """Compose one image.

    Returns:
        The image, RGB uint8 ``(size, size, 3)``, and for each digit ``((x, y, w, h), digit,
        sample index)``.
    """
    image = background(rng, sources.photos, size)
    least, most = np.log(DIGIT_SIDE)
    sides = np.exp(rng.uniform(least, most, int(rng.integers(1, 4)))) * size
    boxes: list = []
    for side in sorted(sides, reverse=True):  # large first: small ones still find a place
        sample = int(rng.choice(pool))
        alpha, (left, top, w, h) = digit_alpha(sources.digits[sample], side)
        place = _free_place(rng, [box for box, _, _ in boxes], w, h, size)
        if place is None:
            continue
        x, y = place
        paste(image, alpha, bright_colour(rng), x - left, y - top)
        boxes.append(((x, y, w, h), int(sources.labels[sample]), sample))
    return image.round().astype(np.uint8), boxes


def _free_place(
    rng: np.random.Generator, boxes: list[tuple], w: int, h: int, size: int
) -> tuple[int, int] | None:
    """Find a corner for a ``w x h`` box that hardly overlaps the others, None without one."""
    for _ in range(50):
        x, y = int(rng.integers(size - w + 1)), int(rng.integers(size - h + 1))
        if all(_iou((x, y, w, h), box) < MAX_IOU for box in boxes):
            return x, y
    return None


def _iou(a: tuple, b: tuple) -> float:
    w = max(0, min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0]))
    h = max(0, min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1]))
    return w * h / (a[2] * a[3] + b[2] * b[3] - w * h)
