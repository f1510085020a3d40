"""Contact sheets: a few images on one PNG, to see that their boxes or classes are right."""

import json
import os
from collections import Counter
from pathlib import Path

import numpy as np

from ...errors import InputError
from ...readers.config import label_source
from ...readers.data import read_strictly

TILE = 288  # side of a tile in pixels
COLOUR = (0, 255, 255)  # BGR


def draw_contact_sheet(
    ann_file: str | os.PathLike,
    img_dir: str | os.PathLike,
    out_file: str | os.PathLike,
    count: int = 12,
) -> Path:
    """Draw the first images of a COCO file with their boxes and class names.

    Args:
        ann_file: COCO instances JSON.
        img_dir: Folder of its images.
        out_file: The PNG to write; its folder is made.
        count: Number of images, at most those that are there.

    Returns:
        ``out_file`` as a path.

    Raises:
        InputError: An image cannot be read, or there is none.
    """
    content = json.loads(Path(ann_file).read_text(encoding='utf-8'))
    names = {category['id']: category['name'] for category in content['categories']}
    tiles = []
    for image in content['images'][:count]:
        pixels = _read_bgr(Path(img_dir) / image['file_name'])
        boxes = [
            (names[a['category_id']], a['bbox'])
            for a in content['annotations']
            if a['image_id'] == image['id']
        ]
        tiles.append(_draw_tile(pixels, boxes))
    if not tiles:
        raise InputError(f'{ann_file}: has no images to draw')
    return _write_sheet(tiles, out_file)


def draw_class_sheet(
    img_dir: str | os.PathLike, out_file: str | os.PathLike, count: int = 12
) -> Path:
    """Draw images of class folders with the names of their classes: one of each, then another.

    Args:
        img_dir: Folder with a folder of images for each class.
        out_file: The PNG to write; its folder is made.
        count: Number of images, at most those that are there.

    Returns:
        ``out_file`` as a path.

    Raises:
        InputError: An image cannot be read, or there is none.
    """
    split, _ = read_strictly(label_source(str(img_dir), '', None, None, several=False))
    names, labels, classes = split.files, split.labels.tolist(), split.classes
    earlier: Counter[int] = Counter()
    turns = []  # how many images of its class come before each
    for label in labels:
        turns.append(earlier[label])
        earlier[label] += 1
    order = sorted(range(len(names)), key=lambda i: (turns[i], labels[i]))
    tiles = []
    for i in order[:count]:
        tile = _draw_tile(_read_bgr(Path(img_dir) / names[i]), [])
        tiles.append(_add_caption(tile, classes[labels[i]]))
    return _write_sheet(tiles, out_file)


def _read_bgr(path: Path) -> np.ndarray:
    import cv2

    image = cv2.imread(str(path))
    if image is None:
        raise InputError(f'{path}: not a readable image')
    return image


def _write_sheet(tiles: list[np.ndarray], out_file: str | os.PathLike) -> Path:
    """Write tiles of one shape as a grid of at most four columns."""
    import cv2

    columns = min(4, len(tiles))
    tiles = tiles + [np.full_like(tiles[0], 255)] * (-len(tiles) % columns)
    rows = [np.hstack(tiles[i : i + columns]) for i in range(0, len(tiles), columns)]
    out_file = Path(out_file)
    out_file.parent.mkdir(parents=True, exist_ok=True)
    out_file.write_bytes(cv2.imencode('.png', np.vstack(rows))[1].tobytes())
    return out_file


def _draw_tile(image: np.ndarray, boxes: list[tuple[str, list]]) -> np.ndarray:
    """Fit a BGR image into a square tile and draw ``(name, [x, y, w, h])`` boxes on it."""
    import cv2

    height, width = image.shape[:2]
    scale = TILE / max(height, width)
    shape = (max(1, round(width * scale)), max(1, round(height * scale)))
    way = cv2.INTER_NEAREST if scale > 1 else cv2.INTER_AREA  # enlarged pixels stay countable
    tile = np.full((TILE, TILE, 3), 255, np.uint8)
    tile[: shape[1], : shape[0]] = cv2.resize(image, shape, interpolation=way)
    for name, (x, y, w, h) in boxes:
        left, top = round(x * scale) - 1, round(y * scale) - 1
        right, bottom = round((x + w) * scale), round((y + h) * scale)
        cv2.rectangle(tile, (left, top), (right, bottom), COLOUR, 1)
        # above the box where there is room, else below
        base = top - 4 if top >= 22 else min(bottom + 20, TILE - 5)
        text_width = cv2.getTextSize(name, cv2.FONT_HERSHEY_SIMPLEX, 0.6, 2)[0][0]
        cv2.rectangle(tile, (left, base - 17), (left + text_width + 3, base + 4), COLOUR, -1)
        cv2.putText(tile, name, (left + 1, base), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (0, 0, 0), 2)
    return cv2.copyMakeBorder(tile, 4, 4, 4, 4, cv2.BORDER_CONSTANT, value=(255, 255, 255))


def _add_caption(tile: np.ndarray, name: str) -> np.ndarray:
    """Write a name on a strip above a tile, smaller where it is long."""
    import cv2

    width = cv2.getTextSize(name, cv2.FONT_HERSHEY_SIMPLEX, 0.6, 1)[0][0]
    scale = 0.6 * min(1.0, (TILE - 4) / max(width, 1))
    tile = cv2.copyMakeBorder(tile, 24, 0, 0, 0, cv2.BORDER_CONSTANT, value=(255, 255, 255))
    cv2.putText(tile, name, (5, 22), cv2.FONT_HERSHEY_SIMPLEX, scale, (0, 0, 0), 1, cv2.LINE_AA)
    return tile
