"""Demo detection data, made on the spot: real handwritten digits on real photographs, as COCO.

The digits are scikit-learn's 1797 (UCI's test set of pen strokes, 8x8, 16 grey levels), the
backgrounds crops of scikit-learn's two photographs. Nothing is downloaded and nothing is shipped.
A digit sample is used either for training or for validation, never for both; the two photographs
are shared, so the validation measures digits that were not seen on backgrounds that may have been.
"""

import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np

from tresnet_det.errors import InputError

VERSION = '1.0'
SPLITS = ('train2017', 'val2017')
VAL_SHARE = 0.2  # of the 1797 digit samples
PHOTO_BRIGHTNESS = 0.35  # busy full-bright photographs need hours of training, not minutes
DIGIT_SIDE = (0.21, 0.58)  # longest side of a digit, as a share of the picture's side
MAX_IOU = 0.05
INK = 128  # a pixel whose alpha (0..255) is at least this belongs to the digit's box
DESCRIPTION = (
    'Demo data: handwritten digits on photographs. The digit samples of train2017 and val2017 are '
    'disjoint; the two background photographs are shared by both.'
)
LICENSES = [
    {'id': 1, 'name': 'Digits: UCI optical recognition of handwritten digits, by scikit-learn'},
    {'id': 2, 'name': 'Photographs: scikit-learn china.jpg (danielbuechele), flower.jpg '
                      '(vultilion), Creative Commons Attribution'},
]  # fmt: skip


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
            ``val2017/`` with PNG pictures.
        num_train: Number of training pictures.
        num_val: Number of validation pictures.
        size: Side of the square pictures in pixels, 32 to 1024.
        seed: Any non-negative number.

    Returns:
        ``out_dir`` as a path.

    Raises:
        InputError: An argument is out of range, or ``out_dir`` holds something else.
    """
    _check_arguments(num_train, num_val, size, seed)
    out_dir = Path(out_dir)
    info = {
        'description': DESCRIPTION,
        'version': VERSION,
        'seed': seed,
        'num_train': num_train,
        'num_val': num_val,
        'size': size,
    }
    if _is_complete(out_dir, info):
        return out_dir
    target = Path(os.path.realpath(out_dir))
    target.parent.mkdir(parents=True, exist_ok=True)
    temp = Path(tempfile.mkdtemp(prefix=f'.{target.name}-', dir=target.parent))
    try:
        _write_all(temp, info)
        temp.chmod(0o755)  # mkdtemp's folder is private to the user
        _rename(temp, target, info)
    finally:
        shutil.rmtree(temp, ignore_errors=True)
    return out_dir


def _check_arguments(num_train: int, num_val: int, size: int, seed: int) -> None:
    for name, value in (('num_train', num_train), ('num_val', num_val)):
        if value < 1:
            raise InputError(f'demo data: {name} is {value}; give at least 1')
    if not 32 <= size <= 1024:
        raise InputError(f'demo data: size is {size}; give a side of 32 to 1024 pixels')
    if seed < 0:
        raise InputError(f'demo data: seed is {seed}; give 0 or more')


def _is_complete(out_dir: Path, info: dict) -> bool:
    """True where this very data is there, False where nothing is, else an InputError."""
    if not out_dir.exists() or (out_dir.is_dir() and not any(out_dir.iterdir())):
        return False
    advice = 'delete it, or choose another folder'
    for split in SPLITS:
        try:
            content = json.loads((out_dir / f'annotations/instances_{split}.json').read_text())
            found = content['info']
            names = {image['file_name'] for image in content['images']}
        except (OSError, ValueError, KeyError, TypeError):
            raise InputError(
                f'{out_dir} is there and is no demo data, it is not overwritten: {advice}'
            ) from None
        if found != info:
            differs = [key for key in info if key not in found or found[key] != info[key]]
            had = ', '.join(f'{key} {found.get(key)} (asked: {info[key]})' for key in differs)
            raise InputError(f'{out_dir} holds other demo data, with {had}: {advice}')
        there = {p.name for p in (out_dir / split).glob('*.png') if p.stat().st_size}
        if names - there:
            raise InputError(
                f'{out_dir / split} lacks {len(names - there)} of {len(names)} pictures, '
                f'the first {min(names - there)}: {advice}'
            )
    return True


def _rename(temp: Path, target: Path, info: dict) -> None:
    try:
        temp.rename(target)
    except OSError:
        # another process was faster: its data is as good, anything else is named
        if not _is_complete(target, info):
            raise


def _write_all(root: Path, info: dict) -> None:
    from sklearn.datasets import load_digits, load_sample_images

    digits = load_digits()
    photos = load_sample_images().images  # RGB, (427, 640, 3), uint8
    order = np.random.default_rng(info['seed']).permutation(len(digits.images))
    num_val_samples = round(VAL_SHARE * len(order))
    pools = (order[num_val_samples:], order[:num_val_samples])
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
            # one generator a picture: picture 7 is the same however many are made
            rng = np.random.default_rng([info['seed'], number, index])
            picture, boxes = _make_picture(rng, digits, pool, photos, info['size'])
            _add_picture(content, root / split, picture, boxes)
        file = root / f'annotations/instances_{split}.json'
        file.write_text(json.dumps(content, separators=(',', ':')))


def _add_picture(content: dict, folder: Path, picture: np.ndarray, boxes: list[tuple]) -> None:
    """Write one picture, RGB ``(H, W, 3)``, and append its entries to the COCO content."""
    import cv2

    image_id = len(content['images']) + 1
    file_name = f'{image_id:06d}.png'
    png = cv2.imencode('.png', picture[..., ::-1])[1]
    (folder / file_name).write_bytes(png.tobytes())
    height, width = picture.shape[:2]
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


def _make_picture(
    rng: np.random.Generator, digits, pool: np.ndarray, photos: list[np.ndarray], size: int
) -> tuple[np.ndarray, list[tuple]]:
    """Compose one picture.

    Returns:
        The picture, RGB uint8 ``(size, size, 3)``, and for each digit ``((x, y, w, h), digit,
        sample index)``.
    """
    picture = _background(rng, photos, size)
    sides = np.exp(rng.uniform(*np.log(DIGIT_SIDE), rng.integers(1, 4))) * size
    boxes = []
    for side in sorted(sides, reverse=True):  # large first: small ones still find a place
        sample = int(rng.choice(pool))
        alpha, (left, top, w, h) = _digit_alpha(digits.images[sample], side)
        place = _free_place(rng, [box for box, _, _ in boxes], w, h, size)
        if place is None:
            continue
        x, y = place
        _paste(picture, alpha, _bright_colour(rng), x - left, y - top)
        boxes.append(((x, y, w, h), int(digits.target[sample]), sample))
    return picture.round().astype(np.uint8), boxes


def _background(rng: np.random.Generator, photos: list[np.ndarray], size: int) -> np.ndarray:
    """Take a random dimmed crop of a photograph, float ``(size, size, 3)``."""
    import cv2

    photo = photos[rng.integers(len(photos))]
    height, width = photo.shape[:2]
    low = min(size, height)
    crop = int(rng.integers(low, min(3 * size, height) + 1))
    y = int(rng.integers(height - crop + 1))
    x = int(rng.integers(width - crop + 1))
    view = np.ascontiguousarray(photo[y : y + crop, x : x + crop])
    if rng.random() < 0.5:
        view = np.ascontiguousarray(view[:, ::-1])
    way = cv2.INTER_AREA if crop >= size else cv2.INTER_CUBIC
    return cv2.resize(view, (size, size), interpolation=way).astype(np.float64) * PHOTO_BRIGHTNESS


def _digit_alpha(image: np.ndarray, side: float) -> tuple[np.ndarray, tuple]:
    """Upscale one 8x8 digit smoothly.

    Args:
        image: Grey levels 0..16, ``(8, 8)``.
        side: Wanted longest side of the ink in pixels; met to a pixel or two.

    Returns:
        Opacity 0..255, uint8 ``(H, W)``, and the tight ink box in it, ``(left, top, w, h)``.
    """
    import cv2

    rows, columns = np.nonzero(image >= 7)
    image = image[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    scale = side / max(image.shape)
    # the margin lets strokes at the border end round instead of cut
    image = np.pad(image / 16.0, 1)
    shape = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    smooth = cv2.resize(image, shape, interpolation=cv2.INTER_CUBIC)
    # a steep ramp around the stroke's edge: upscaled ink stays crisp, and its box well-defined
    alpha = (np.clip((smooth - 0.3) / 0.25, 0, 1) * 255).round().astype(np.uint8)
    rows, columns = np.nonzero(alpha >= INK)
    left, top = int(columns.min()), int(rows.min())
    return alpha, (left, top, int(columns.max()) - left + 1, int(rows.max()) - top + 1)


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


def _bright_colour(rng: np.random.Generator) -> np.ndarray:
    """Draw white (one in four) or a saturated colour of full brightness, RGB ``(3,)`` 0..255."""
    import colorsys

    saturation = 0.0 if rng.random() < 0.25 else rng.uniform(0.4, 0.9)
    colour = colorsys.hsv_to_rgb(rng.random(), saturation, rng.uniform(0.92, 1.0))
    return np.array(colour) * 255


def _paste(picture: np.ndarray, alpha: np.ndarray, colour: np.ndarray, x: int, y: int) -> None:
    """Blend ``colour`` into ``picture`` in place; what lies outside the picture is left out."""
    top, left = max(0, -y), max(0, -x)
    bottom = min(alpha.shape[0], picture.shape[0] - y)
    right = min(alpha.shape[1], picture.shape[1] - x)
    opacity = alpha[top:bottom, left:right, None] / 255.0
    view = picture[y + top : y + bottom, x + left : x + right]
    view += opacity * (colour - view)
