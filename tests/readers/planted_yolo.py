"""A small dataset in YOLO's layout without a fault, and faults to plant into it."""

import shutil

from PIL import Image
from planted_coco import BOXES, HEIGHT, WIDTH, Written, save_image

YAML = 'train: images/train\nval: images/val\nnames: [cat, dog]\n'
ROWS = [
    f'{i % 2} {(x + w / 2) / WIDTH:.6f} {(y + h / 2) / HEIGHT:.6f} {w / WIDTH:.6f} {h / HEIGHT:.6f}'
    for i, (x, y, w, h) in enumerate(BOXES)
]


class Yolo(Written):
    """Four images to learn from, three to measure on; two classes; three boxes per image."""

    def __init__(self, root):
        self.root = root
        for split, count in (('train', 4), ('val', 3)):
            for i in range(count):
                save_image(self.image(split, i), [len(split), i])
                self.rows(split, i, ROWS)
        self.describe(YAML)

    def image(self, split, i):
        return self.root / f'images/{split}/{i}.jpg'

    def label(self, split, i):
        return self.root / f'labels/{split}/{i}.txt'

    def rows(self, split, i, rows):
        self.label(split, i).parent.mkdir(parents=True, exist_ok=True)
        self.label(split, i).write_text('\n'.join(rows))

    def add(self, row):
        self.rows('train', 1, [*ROWS, row])

    def describe(self, text):
        (self.root / 'data.yaml').write_text(text)


def as_corners(yolo):
    """[x1, y1, x2, y2] in fractions, which are read as centre, width and height."""
    rows = [
        f'{i % 2} {x / WIDTH} {y / HEIGHT} {(x + w) / WIDTH} {(y + h) / HEIGHT}'
        for i, (x, y, w, h) in enumerate(BOXES)
    ]
    for i in range(4):
        yolo.rows('train', i, rows)


def as_pixels(yolo):
    for split, count in (('train', 4), ('val', 3)):
        for i in range(count):
            rows = [f'0 {x + w / 2} {y + h / 2} {w} {h}' for x, y, w, h in BOXES]
            yolo.rows(split, i, rows)


def turn(yolo):
    exif = Image.Exif()
    exif[0x0112] = 6
    save_image(yolo.image('train', 0), 77, exif=exif)


def list_one_that_is_not_there(yolo):
    files = [f'images/val/{i}.jpg' for i in range(3)]
    (yolo.root / 'val.txt').write_text('\n'.join([*files, 'images/val/gone.jpg']))
    shutil.copy(yolo.label('val', 0), yolo.root / 'labels/val/gone.txt')
    yolo.describe(YAML.replace('images/val', 'val.txt'))


PLANTS = {
    'clean': (lambda y: None, {}),
    # Files.
    'no label file': (lambda y: y.label('train', 1).unlink(), {('train', 'missing-label-file'): 1}),
    'no label file in a whole split': (
        lambda y: shutil.rmtree(y.root / 'labels/val'),
        {('val', 'missing-label-file'): 3, ('val', 'nothing-to-learn'): 1},
    ),
    'label file of no image': (
        lambda y: y.rows('train', 9, ROWS), {('train', 'label-without-image'): 1}
    ),
    'two images, one label file': (
        lambda y: save_image(y.root / 'images/train/1.png', 55),
        {('train', 'shared-label-file'): 1},
    ),
    'listed, not there': (list_one_that_is_not_there, {('val', 'missing-image'): 1}),
    'list that is no text': (
        lambda y: ((y.root / 'val.txt').write_bytes(b'\xff\xfe'), y.describe(
            YAML.replace('images/val', 'val.txt'))),
        {('val', 'unreadable-annotations'): 1},
    ),
    'folder without images': (
        lambda y: [y.image('val', i).unlink() for i in range(3)], {('val', 'nothing-to-learn'): 1}
    ),
    # Rows.
    'four numbers': (lambda y: y.add('0 0.5 0.5 0.2'), {('train', 'bad-label-row'): 1}),
    'a confidence': (lambda y: y.add('0 0.5 0.5 0.2 0.2 0.9'), {('train', 'bad-label-row'): 1}),
    'half a point': (
        lambda y: y.add('0 0.1 0.1 0.2 0.2 0.3 0.3 0.4'), {('train', 'bad-label-row'): 1}
    ),
    'a name': (lambda y: y.add('cat 0.5 0.5 0.2 0.2'), {('train', 'bad-label-row'): 1}),
    'NaN': (lambda y: y.add('0 nan 0.5 0.2 0.2'), {('train', 'bad-label-row'): 1}),
    'no text': (
        lambda y: y.label('train', 1).write_bytes(b'0 0.5 \xff'), {('train', 'bad-label-row'): 1}
    ),
    'class too large': (
        lambda y: y.add('2 0.5 0.5 0.2 0.2'), {('train', 'unknown-class-number'): 1}
    ),
    'class below 0': (
        lambda y: y.add('-1 0.5 0.5 0.2 0.2'), {('train', 'unknown-class-number'): 1}
    ),
    'class and a half': (
        lambda y: y.add('0.5 0.5 0.5 0.2 0.2'), {('train', 'unknown-class-number'): 1}
    ),
    'pixels': (lambda y: y.add('0 24 20 10 10'), {('train', 'pixel-row'): 1}),
    'pixels everywhere': (as_pixels, {('train', 'pixel-row'): 12, ('val', 'pixel-row'): 9}),
    'above 1': (lambda y: y.add('0 1.2 0.5 0.2 0.2'), {('train', 'bad-fraction'): 1}),
    'below 0': (lambda y: y.add('0 0.5 0.5 -0.2 0.2'), {('train', 'bad-fraction'): 1}),
    'no width': (lambda y: y.add('0 0.5 0.5 0 0.2'), {('train', 'box-without-area'): 1}),
    'no height': (lambda y: y.add('0 0.5 0.5 0.2 0'), {('train', 'box-without-area'): 1}),
    'row twice': (lambda y: y.add(ROWS[0]), {('train', 'duplicate-box'): 1}),
    'over the border': (
        lambda y: y.add('0 0.95 0.5 0.3 0.2'), {('train', 'box-partly-outside'): 1}
    ),
    'corners': (as_corners, {('train', 'corner-boxes'): 1}),
    # Images.
    'cut image': (
        lambda y: y.image('train', 1).write_bytes(y.image('train', 1).read_bytes()[:-40]),
        {('train', 'undecodable-image'): 1},
    ),
    'web page': (
        lambda y: y.image('val', 1).write_text('<html>'), {('val', 'undecodable-image'): 1}
    ),
    'turned by EXIF': (turn, {('train', 'exif-turned'): 1}),
    'black image': (
        lambda y: Image.new('RGB', (WIDTH, HEIGHT)).save(y.image('train', 0)),
        {('train', 'blank-image'): 1},
    ),
    'in both splits': (
        lambda y: shutil.copy(y.image('train', 2), y.image('val', 1)), {('val', 'overlap'): 1}
    ),
    'one folder for both': (
        lambda y: y.describe(YAML.replace('images/val', 'images/train')), {('val', 'overlap'): 4}
    ),
    # Names and paths.
    'class without example': (
        lambda y: y.describe(YAML.replace('dog', 'dog, cow')),
        {('train', 'unused-category'): 1, ('val', 'unused-category'): 1},
    ),
    'no names': (
        lambda y: y.describe(YAML.replace('names: [cat, dog]', 'nc: 2')),
        {('set/', 'bad-layout'): 1},
    ),
    'path that does not exist': (
        lambda y: y.describe(YAML.replace('images/val', 'images/wal')), {('set/', 'bad-layout'): 1}
    ),
    'test images without labels': (
        lambda y: (save_image(y.root / 'images/test/a.jpg', 9), y.describe(
            YAML + 'test: images/test')),
        {('set/', 'left-out'): 1},
    ),
}  # fmt: skip
