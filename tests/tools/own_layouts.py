"""The demo data in YOLO's layout."""

import json
import shutil

NAMES = tuple('0123456789')
SPLITS = {'train2017': 'train', 'val2017': 'val'}


def read_demo(root):
    """Yield split, image and its boxes (number, x, y, w, h) of the demo's COCO files."""
    for old, split in SPLITS.items():
        content = json.loads((root / f'annotations/instances_{old}.json').read_text())
        for image in content['images']:
            boxes = [
                (a['category_id'] - 1, *a['bbox'])
                for a in content['annotations']
                if a['image_id'] == image['id']
            ]
            yield split, root / old / image['file_name'], image, boxes


def write_yolo(root, out):
    """The demo data as YOLO keeps it, with a data.yaml."""
    for split, file, image, boxes in read_demo(root):
        width, height = image['width'], image['height']
        target = out / f'images/{split}/{file.name}'
        labels = out / f'labels/{split}/{file.stem}.txt'
        for path in (target, labels):
            path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
        rows = [
            f'{n} {(x + w / 2) / width:.6f} {(y + h / 2) / height:.6f} {w / width:.6f} '
            f'{h / height:.6f}\n'
            for n, x, y, w, h in boxes
        ]
        labels.write_text(''.join(rows))
    names = ', '.join(f"'{name}'" for name in NAMES)
    (out / 'data.yaml').write_text(f'train: images/train\nval: images/val\nnames: [{names}]\n')
