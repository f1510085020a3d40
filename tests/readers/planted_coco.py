"""Small datasets in COCO's format without a fault, and faults to plant into them."""

import json
import math
import shutil

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 48, 40
BOXES = ([2, 3, 20, 18], [10, 12, 30, 24], [25, 6, 20, 30])  # of each image


def save_image(path, seed, size=(WIDTH, HEIGHT), **options):
    """Soft random blotches: nothing like those of another seed."""
    coarse = np.random.default_rng(seed).integers(256, size=(6, 8, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(path, **options)


class Written:
    """A layout whose files are there at once."""

    def write(self):
        pass


class Coco:
    """Four images to learn from, three to measure on; two classes; three boxes per image."""

    def __init__(self, root):
        self.root = root
        self.train, self.val = self._split('train', 4), self._split('val', 3)

    def _split(self, split, count):
        content = dict(images=[], annotations=[], categories=[])
        content['categories'] = [dict(id=3, name='cat'), dict(id=5, name='dog')]
        for i in range(count):
            name = f'{split}_{i}.jpg'
            save_image(self.root / split / name, [len(split), i])
            content['images'].append(dict(id=i + 1, file_name=name, width=WIDTH, height=HEIGHT))
            content['annotations'] += [
                dict(id=len(BOXES) * i + j + 1, image_id=i + 1, category_id=(3, 5)[j % 2],
                     bbox=list(box), area=box[2] * box[3], iscrowd=0)
                for j, box in enumerate(BOXES)
            ]  # fmt: skip
        return content

    def image(self, split, i):
        return self.root / split / f'{split}_{i}.jpg'

    def write(self):
        for split in ('train', 'val'):
            path = self.root / f'annotations/instances_{split}.json'
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(getattr(self, split)))

    def annotate(self, i=0, split='train', **values):
        getattr(self, split)['annotations'][i].update(values)

    def change_boxes(self, change):
        for annotation in self.train['annotations']:
            annotation['bbox'] = change(*annotation['bbox'])

    def add_category(self, **values):
        for content in (self.train, self.val):
            content['categories'].append(dict(dict(id=9, name='horse'), **values))


def cut(path):
    path.write_bytes(path.read_bytes()[:-40])


def turn(coco):
    exif = Image.Exif()
    exif[0x0112] = 6
    save_image(coco.image('train', 0), 77, exif=exif)


def list_twice(coco):
    coco.train['images'].append(dict(coco.train['images'][0], id=50))
    coco.train['annotations'].append(dict(coco.train['annotations'][0], id=51, image_id=50))


def put_elsewhere(coco, name):
    coco.image('train', 0).rename(coco.root / 'train' / name)
    coco.train['images'][0]['file_name'] = name


def number_twice(coco):
    save_image(coco.root / 'train/more.jpg', 99)
    coco.train['images'].append(dict(coco.train['images'][0], file_name='more.jpg'))


def drop_annotations(coco, key, value):
    coco.val['annotations'] = [a for a in coco.val['annotations'] if a[key] != value]


def compress_again(coco):
    with Image.open(coco.image('train', 2)) as image:
        image.save(coco.image('val', 1), quality=60)


def fault(plant, code, count=1, splits=('train',)):
    """What plants it, and what is to be found where."""
    return plant, {(split, code): count for split in splits}


def name_ids(coco, key, reference, count):
    """Give the first of the entries ids that are text."""
    for entry in coco.train[key][:count]:
        for annotation in coco.train['annotations']:
            if annotation[reference] == entry['id']:
                annotation[reference] = f'x{entry["id"]}'
        entry['id'] = f'x{entry["id"]}'


VAL, BOTH = ('val',), ('train', 'val')
FILLED = {('train', 'filled-in'): 1}
PLANTS = {
    'missing image': fault(lambda c: c.image('train', 1).unlink(), 'missing-image'),
    'truncated image': fault(lambda c: cut(c.image('train', 1)), 'undecodable-image'),
    'web page in place of an image': fault(
        lambda c: c.image('val', 0).write_text('<html>not found</html>'), 'undecodable-image',
        splits=VAL),
    'empty image': fault(lambda c: c.image('train', 3).write_bytes(b''), 'undecodable-image'),
    'another size': fault(
        lambda c: c.train['images'][2].update(width=WIDTH + 10), 'size-differs'),
    'the size before EXIF turns it': fault(turn, 'exif-rotated'),
    'black image': fault(
        lambda c: Image.new('RGB', (WIDTH, HEIGHT)).save(c.image('train', 0)), 'blank-image'),
    'copy within the split': fault(
        lambda c: shutil.copy(c.image('train', 0), c.image('train', 1)), 'duplicate-image'),
    'image listed twice': (list_twice, {  # as one, which has the box twice
        ('train', code): 1 for code in ('image-listed-twice', 'duplicate-box', 'filled-in')}),
    'image that nothing names': fault(
        lambda c: save_image(c.root / 'train/extra.png', 88), 'unused-file'),
    'image above the folder': fault(
        lambda c: put_elsewhere(c, '../../near.jpg'), 'outside-folder'),
    'image by its whole path': fault(
        lambda c: put_elsewhere(c, f'{c.root.parent}/far.jpg'), 'outside-folder'),
    'no width': fault(lambda c: c.train['images'][0].pop('width'), 'filled-in'),
    'a mask of no number, its image without a width': (
        lambda c: (c.train['images'][0].pop('width'),
                   c.annotate(segmentation=[[math.nan, 1, 9, 1, 9, 9]])),
        FILLED | {('train', 'bad-mask'): 1}),
    'ids of images, some text': (lambda c: name_ids(c, 'images', 'image_id', 1), FILLED),
    'ids of categories, some text': (lambda c: name_ids(c, 'categories', 'category_id', 1), FILLED),
    'ids of annotations, some text': (lambda c: c.annotate(id='first'), FILLED),
    'numbers as text in annotations': (
        lambda c: [a.update(image_id=str(a['image_id'])) for a in c.train['annotations']], FILLED),
    'numbers as text in images': (
        lambda c: [i.update(id=str(i['id'])) for i in c.train['images']], FILLED),
    'ids that are all text': (lambda c: name_ids(c, 'images', 'image_id', 9), {}),
    'no area': (lambda c: [a.pop('area') for a in c.train['annotations']], FILLED),
    'no ids of annotations': (lambda c: [a.pop('id') for a in c.train['annotations']], FILLED),
    'nothing for a crowd': (lambda c: c.annotate(iscrowd=None), FILLED),
    'no iscrowd where it is needed': fault(
        lambda c: c.val['annotations'][0].pop('iscrowd'), 'filled-in', splits=VAL),
    'no box': fault(lambda c: c.train['annotations'][0].pop('bbox'), 'missing-key'),
    'list for an id': fault(lambda c: c.annotate(id=[1]), 'bad-id'),
    'height of zero': fault(lambda c: c.train['images'][0].update(height=0), 'bad-image'),
    'image id twice': fault(number_twice, 'duplicate-image-id'),
    'annotation id twice': fault(lambda c: c.annotate(4, id=1), 'duplicate-annotation-id'),
    'annotations from zero': fault(
        lambda c: c.annotate(split='val', id=0), 'annotation-id-0', splits=VAL),
    'images that are not in the file': fault(
        lambda c: (c.annotate(image_id=999), c.annotate(1, image_id=[1])), 'unknown-image', 2),
    'category that is not in the file': fault(
        lambda c: c.annotate(category_id=4), 'unknown-category'),
    'two categories with one id': fault(
        lambda c: c.add_category(id=3), 'duplicate-category', splits=BOTH),
    'class that nothing has': fault(lambda c: c.add_category(), 'unused-category', splits=BOTH),
    'class in two spellings': fault(
        lambda c: (c.add_category(name='Cat '),
                   [c.annotate(split=s, category_id=9) for s in BOTH]), 'similar-classes'),
    'category called by a list': fault(
        lambda c: c.add_category(name=['dog']), 'bad-id', splits=BOTH),
    'class of a long name': (
        lambda c: c.add_category(name='x' * 1001),
        {(split, code): 1 for split in BOTH for code in ('long-name', 'unused-category')}),
    'categories in another order': fault(
        lambda c: c.val['categories'].reverse(), 'class-order', splits=VAL),
    'boxes that are none': fault(
        lambda c: [c.annotate(i, bbox=box) for i, box in enumerate(
            ([1, 2, 3], [1, 2, 'x', 4], [1, 2, math.nan, 4], [1, True, 2, 4]))],
        'bad-box', 4),
    'text for a crowd': fault(
        lambda c: c.annotate(split='val', iscrowd='no'), 'bad-crowd', splits=VAL),
    'boxes as fractions': fault(
        lambda c: c.change_boxes(lambda x, y, w, h: [x / WIDTH, y / HEIGHT, w / WIDTH, h / HEIGHT]),
        'relative-boxes'),
    'corners in place of sizes': fault(
        lambda c: c.change_boxes(lambda x, y, w, h: [x, y, x + w, y + h]), 'corner-boxes'),
    'box outside': fault(lambda c: c.annotate(bbox=[WIDTH + 1, 3, 9, 9]), 'box-outside'),
    'box over the border': fault(
        lambda c: c.annotate(bbox=[WIDTH - 5, 3, 9, 9]), 'box-partly-outside'),
    'boxes without area': (
        lambda c: (c.annotate(bbox=[5, 5, 0, 9]), c.annotate(1, area=0)),
        {('train', 'box-without-area'): 1, ('train', 'filled-in'): 1}),
    'object annotated twice': fault(
        lambda c: c.train['annotations'].append(dict(c.train['annotations'][0], id=70)),
        'duplicate-box'),
    'image without annotation': fault(
        lambda c: drop_annotations(c, 'image_id', 2), 'no-annotation', splits=VAL),
    'image of both splits': fault(
        lambda c: shutil.copy(c.image('train', 2), c.image('val', 1)), 'overlap', splits=VAL),
    'image of both splits, compressed again': fault(compress_again, 'near-copy', splits=VAL),
    'no annotation': fault(lambda c: c.train['annotations'].clear(), 'nothing-to-learn'),
    'validation lacks a category': fault(
        lambda c: (c.val['categories'].pop(), drop_annotations(c, 'category_id', 5)),
        'class-without-category', splits=VAL),
    'no list of categories': fault(
        lambda c: c.val.pop('categories'), 'unreadable-annotations', splits=VAL),
}  # fmt: skip
