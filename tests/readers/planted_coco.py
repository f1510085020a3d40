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


PLANTS = {}


def plant(code, count=1, split='train', both=False):
    """Register a function that plants a fault into a `Coco`."""

    def register(function):
        where = ('train', 'val') if both else (split,)
        PLANTS[function.__name__.replace('_', ' ')] = (
            function,
            {(name, code): count for name in where},
        )
        return function

    return register


@plant('missing-image')
def remove_an_image(coco):
    coco.image('train', 1).unlink()


@plant('undecodable-image')
def cut_an_image_short(coco):
    path = coco.image('train', 1)
    path.write_bytes(path.read_bytes()[:-40])


@plant('undecodable-image', split='val')
def put_a_web_page_in_place_of_an_image(coco):
    coco.image('val', 0).write_text('<html>not found</html>')


@plant('undecodable-image')
def empty_an_image(coco):
    coco.image('train', 3).write_bytes(b'')


@plant('size-differs')
def annotate_another_size(coco):
    coco.train['images'][2].update(width=WIDTH + 10)


@plant('exif-rotated')
def annotate_the_size_before_exif_turns_it(coco):
    exif = Image.Exif()
    exif[0x0112] = 6
    save_image(coco.image('train', 0), 77, exif=exif)


@plant('blank-image')
def export_a_black_image(coco):
    Image.new('RGB', (WIDTH, HEIGHT)).save(coco.image('train', 0))


@plant('duplicate-image')
def copy_an_image_within_the_split(coco):
    shutil.copy(coco.image('train', 0), coco.image('train', 1))


@plant('image-listed-twice')
def list_an_image_twice(coco):
    coco.train['images'].append(dict(coco.train['images'][0], id=50))
    coco.train['annotations'].append(dict(coco.train['annotations'][0], id=51, image_id=50))


@plant('unused-file')
def leave_an_image_that_nothing_names(coco):
    save_image(coco.root / 'train/extra.png', 88)


@plant('missing-key')
def forget_a_width(coco):
    del coco.train['images'][0]['width']


@plant('missing-key', split='val')
def forget_iscrowd_where_it_is_needed(coco):
    del coco.val['annotations'][0]['iscrowd']


@plant('bad-id')
def make_an_id_a_list(coco):
    coco.train['annotations'][0]['id'] = [1]


@plant('bad-image')
def annotate_a_height_of_zero(coco):
    coco.train['images'][0]['height'] = 0


@plant('duplicate-image-id')
def use_an_image_id_twice(coco):
    save_image(coco.root / 'train/more.jpg', 99)
    coco.train['images'].append(dict(coco.train['images'][0], file_name='more.jpg'))


@plant('duplicate-annotation-id')
def use_an_annotation_id_twice(coco):
    coco.train['annotations'][4]['id'] = 1


@plant('annotation-id-0', split='val')
def number_annotations_from_zero(coco):
    coco.val['annotations'][0]['id'] = 0


@plant('unknown-image', count=2)
def refer_to_images_that_are_not_there(coco):
    coco.train['annotations'][0]['image_id'] = 999
    coco.train['annotations'][1]['image_id'] = [1]


@plant('unknown-category')
def refer_to_a_category_that_is_not_there(coco):
    coco.train['annotations'][0]['category_id'] = 4


@plant('duplicate-category', both=True)
def give_two_categories_one_id(coco):
    for content in (coco.train, coco.val):
        content['categories'].append(dict(id=3, name='horse'))


@plant('unused-category', both=True)
def declare_a_class_that_nothing_has(coco):
    for content in (coco.train, coco.val):
        content['categories'].append(dict(id=9, name='horse'))


@plant('similar-classes')
def spell_a_class_in_two_ways(coco):
    for content in (coco.train, coco.val):
        content['categories'].append(dict(id=9, name='Cat '))
        content['annotations'][0]['category_id'] = 9


@plant('class-order', split='val')
def give_the_splits_categories_in_another_order(coco):
    coco.val['categories'].reverse()


@plant('bad-box', count=3)
def write_boxes_that_are_none(coco):
    boxes = ([1, 2, 3], [1, 2, 'x', 4], [1, 2, math.nan, 4])
    for annotation, box in zip(coco.train['annotations'], boxes, strict=False):
        annotation['bbox'] = box


@plant('bad-crowd', split='val')
def write_text_for_a_crowd(coco):
    coco.val['annotations'][0]['iscrowd'] = 'no'


@plant('relative-boxes')
def write_boxes_as_fractions(coco):
    for annotation in coco.train['annotations']:
        x, y, w, h = annotation['bbox']
        annotation['bbox'] = [x / WIDTH, y / HEIGHT, w / WIDTH, h / HEIGHT]


@plant('corner-boxes')
def write_corners_in_place_of_sizes(coco):
    for annotation in coco.train['annotations']:
        x, y, w, h = annotation['bbox']
        annotation['bbox'] = [x, y, x + w, y + h]


@plant('box-outside')
def put_a_box_outside(coco):
    coco.train['annotations'][0]['bbox'] = [WIDTH + 1, 3, 9, 9]


@plant('box-partly-outside')
def let_a_box_pass_the_border(coco):
    coco.train['annotations'][0]['bbox'] = [WIDTH - 5, 3, 9, 9]


@plant('box-without-area', count=2)
def draw_boxes_without_area(coco):
    coco.train['annotations'][0]['bbox'] = [5, 5, 0, 9]
    coco.train['annotations'][1]['area'] = 0


@plant('duplicate-box')
def annotate_an_object_twice(coco):
    coco.train['annotations'].append(dict(coco.train['annotations'][0], id=70))


@plant('no-annotation', split='val')
def leave_an_image_without_annotation(coco):
    coco.val['annotations'] = [a for a in coco.val['annotations'] if a['image_id'] != 2]


@plant('overlap', split='val')
def measure_on_what_is_learnt(coco):
    shutil.copy(coco.image('train', 2), coco.image('val', 1))


@plant('near-copy', split='val')
def measure_on_what_is_learnt_compressed_again(coco):
    with Image.open(coco.image('train', 2)) as image:
        image.save(coco.image('val', 1), quality=60)


@plant('nothing-to-learn')
def annotate_nothing(coco):
    coco.train['annotations'].clear()


@plant('class-without-category', split='val')
def leave_a_category_out_of_the_validation(coco):
    coco.val['categories'].pop()
    coco.val['annotations'] = [a for a in coco.val['annotations'] if a['category_id'] == 3]


@plant('unreadable-annotations', split='val')
def lose_a_list(coco):
    del coco.val['categories']


@plant('bad-id', both=True)
def call_a_category_by_a_list(coco):
    for content in (coco.train, coco.val):
        content['categories'].append(dict(id=9, name=['dog']))
