"""A contact sheet: a few annotated pictures on one PNG, to see that boxes and labels are right."""

import json
import os
from pathlib import Path

import numpy as np

from tresnet_det.errors import InputError

TILE = 288  # side of a tile in pixels
COLOUR = (0, 255, 255)  # BGR


def draw_contact_sheet(
    ann_file: str | os.PathLike,
    img_dir: str | os.PathLike,
    out_file: str | os.PathLike,
    count: int = 12,
) -> Path:
    """Draw the first pictures of a COCO file with their boxes and class names.

    Args:
        ann_file: COCO instances JSON.
        img_dir: Folder of its pictures.
        out_file: The PNG to write; its folder is made.
        count: Number of pictures, at most those that are there.

    Returns:
        ``out_file`` as a path.

    Raises:
        InputError: A picture cannot be read, or there is none.
    """
    import cv2

    content = json.loads(Path(ann_file).read_text(encoding='utf-8'))
    names = {category['id']: category['name'] for category in content['categories']}
    tiles = []
    for image in content['images'][:count]:
        picture = cv2.imread(str(Path(img_dir) / image['file_name']))
        if picture is None:
            raise InputError(f'{Path(img_dir) / image["file_name"]}: not a readable picture')
        boxes = [
            (names[a['category_id']], a['bbox'])
            for a in content['annotations']
            if a['image_id'] == image['id']
        ]
        tiles.append(_draw_tile(picture, boxes))
    if not tiles:
        raise InputError(f'{ann_file}: has no pictures to draw')
    columns = min(4, len(tiles))
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % columns)
    rows = [np.hstack(tiles[i : i + columns]) for i in range(0, len(tiles), columns)]
    out_file = Path(out_file)
    out_file.parent.mkdir(parents=True, exist_ok=True)
    out_file.write_bytes(cv2.imencode('.png', np.vstack(rows))[1].tobytes())
    return out_file


def _draw_tile(picture: np.ndarray, boxes: list[tuple[str, list]]) -> np.ndarray:
    """Fit a BGR picture into a square tile and draw ``(name, [x, y, w, h])`` boxes on it."""
    import cv2

    height, width = picture.shape[:2]
    scale = TILE / max(height, width)
    shape = (round(width * scale), round(height * scale))
    way = cv2.INTER_NEAREST if scale > 1 else cv2.INTER_AREA  # enlarged pixels stay countable
    tile = np.full((TILE, TILE, 3), 255, np.uint8)
    tile[: shape[1], : shape[0]] = cv2.resize(picture, shape, interpolation=way)
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
