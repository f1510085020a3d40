"""Mistakes in annotations and folders of data: each makes one and meets it."""

import os

from bad_input_place import XML, YAML, BadPlace, cases

TRAIN = 'train.py CONFIG'
DATA = f'{TRAIN} --data FOLDER'
ONE = f'{TRAIN}, single-label'
# ---------------------------------------------------------------------------------------------


def without_images(at: BadPlace):
    at.coco()
    return at.train('--cfg-options', 'train_dataloader.dataset.data_prefix.img=images')


def missing_image(at: BadPlace):
    at.coco()
    (at.root / 'coco/train/b.png').unlink()
    return at.train()


def other_head(at: BadPlace):
    at.coco()
    return at.train('--cfg-options', 'model.bbox_head.num_classes=80')


def raw(change):
    """A change to the bytes of a COCO file."""

    def meet(at: BadPlace):
        at.coco(raw=change)
        return at.train()

    return meet


def content(change):
    """A change to COCO's content."""

    def meet(at: BadPlace):
        at.coco(change)
        return at.train()

    return meet


def image(**values):
    return content(lambda content: content['images'][1].update(values))


def annotation(**values):
    return content(lambda content: content['annotations'][1].update(values))


def other_classes(content):
    for category in content['categories']:
        category['name'] = category['name'].upper()


IN_COCO = [
    ('the annotation file does not exist', BadPlace.train),
    ('the folder of the images does not exist', without_images),
    ('an image does not exist', missing_image),
    ('the file is truncated', raw(lambda data: data[:200])),
    ('the file is empty', raw(lambda data: b'')),
    ('a byte order mark, as some editors write', raw(lambda data: b'\xef\xbb\xbf' + data)),
    ('another encoding than UTF-8', raw(lambda data: data.decode().encode('utf-16'))),
    ('brackets in brackets without end', raw(lambda data: b'[' * 100000)),
    ('another kind of JSON', raw(lambda data: b'[]')),
    ('an annotation without a box', content(lambda content: content['annotations'][1].pop('bbox'))),
    ('a box that is none', annotation(bbox=[5, 5, None, 9])),
    ('a number that is none', annotation(area=float('nan'))),
    ('an image without height', image(height=0)),
    ('two images with one id', image(id=7)),
    ('an annotation of an image that is not in the file', annotation(image_id=8)),
    ('an annotation of a category that is not in the file', annotation(category_id=4)),
    (
        'categories in another order than the classes',
        content(lambda content: content['categories'].reverse()),
    ),
    ('none of the classes', content(other_classes)),
    ('no annotation at all', content(lambda content: content['annotations'].clear())),
    ('a crowd that is neither 0 nor 1', annotation(iscrowd='no')),
    ('another number of classes in the head', other_head),
]
cases("Annotations in COCO's format", [(what, TRAIN, meet) for what, meet in IN_COCO])


# ---------------------------------------------------------------------------------------------


def unknown_layout(at: BadPlace):
    at.image('pile/a.png')
    return at.train('--data', 'pile')


def two_layouts(at: BadPlace):
    at.yolo()
    os.rename(at.root / 'yolo', at.root / 'coco')
    at.coco()
    return at.train('--data', 'coco')


def no_training(at: BadPlace):
    at.coco()
    folder = at.root / 'coco/annotations'
    (folder / 'instances_train.json').rename(folder / 'instances_val.json')
    return at.train('--data', 'coco')


def unknown_classes(at: BadPlace):
    at.coco()
    meta = dict(dataset_meta=dict(classes=('cat', 'horse')))
    return at.run('test', at.config(), at.checkpoint(meta=meta, state_dict={}), '--data', 'coco')


cases('Folders of your own', [
    ('no folder there', DATA, lambda at: at.train('--data', 'nowhere')),
    ('no layout that is known', DATA, unknown_layout),
    ('two layouts in one folder', DATA, two_layouts),
    ('nothing in it is for training', DATA, no_training),
    ('classes that the checkpoint does not know', 'test.py CONFIG CHECKPOINT --data FOLDER',
     unknown_classes),
])  # fmt: skip


# ---------------------------------------------------------------------------------------------


def voc(*arguments, **members):
    return lambda at: at.train('--data', at.voc(*arguments, **members))


def yolo(*rows, **yaml):
    return lambda at: at.train('--data', at.yolo(*rows, **yaml))


def voc_overwrite(at: BadPlace):
    at.write('out/annotations/instances_train.json', '{}')
    return at.run('voc_to_coco', at.voc(), 'out')


IN_VOC = [
    ('XML that is truncated', voc(XML[:80])),
    ('a document type with entities', voc(f'<!DOCTYPE a [<!ENTITY b "c">]>{XML}')),
    ('a corner that is no number', voc(XML.replace('<xmin>1<', '<xmin>one<'))),
    ('another size than the image has', voc(XML.replace('<width>40<', '<width>41<'))),
    ('an object without a name', voc(XML.replace('<name>cat</name>', ''))),
    ('a list names an image that does not exist', voc(members='a\nc\n')),
    ('a list leads out of the folder', voc(members='../../elsewhere\n')),
]
OVERWRITE = 'the target is there and comes from elsewhere'
cases('Pascal VOC', [(what, DATA, meet) for what, meet in IN_VOC])
cases('Pascal VOC', [(OVERWRITE, 'voc_to_coco.py VOC_ROOT OUT_DIR', voc_overwrite)])
RUNS = '!!python/name:os.system'
IN_YOLO = [
    ('pixels in place of fractions', yolo('0 20 15 40 30\n')),
    ('a class that has no name', yolo('2 0.5 0.5 1 1\n')),
    ('a row that is no box', yolo('0 0.5 0.5\n')),
    ('a number that is none', yolo('0 0.5 0.5 nan 1\n')),
    ('no names of classes', yolo(yaml=YAML.replace('names', 'labels') + 'nc: 2\n')),
    ('a path that does not exist', yolo(yaml=YAML.replace('images/val', 'images/valid'))),
    ('a name that YAML takes for a truth value', yolo(yaml=YAML.replace('dog', 'no'))),
    ('YAML that would run code', yolo(yaml=YAML.replace('[cat, dog]', RUNS))),
]
cases('YOLO', [(what, DATA, meet) for what, meet in IN_YOLO])


# ---------------------------------------------------------------------------------------------


def csv(text):
    def meet(at: BadPlace):
        at.csv(text)
        return at.classify('MultiLabelDataset', 'AsymmetricLoss', 'csv', 'train.csv')

    return meet


def classify(at, *names, empty=()):
    at.classes(*names)
    for name in empty:
        (at.root / 'classes' / name).mkdir()
    return at.classify('ImageFolderDataset', data_root='classes')


def one_class(at: BadPlace):
    at.classes('cat')
    return at.classify('ImageFolderDataset', 'CrossEntropyLoss', '.', '', '--data', 'classes')


def no_label(at: BadPlace):
    at.csv('a.png cat\nb.png\n', 'csv/train.txt')
    return at.classify('ImageFolderDataset', data_root='csv', ann_file='train.txt')


IN_CSV = [
    ('no header', 'a.png,cat\nb.png,dog\n'),
    ('a row of another form', 'file,cat,dog\na.png,1\n'),
    ('a value that is none', 'file,cat,dog\na.png,1,yes\n'),
    ('an image in two rows', 'file,label\na.png,cat\na.png,dog\n'),
    ('an image that does not exist', 'file,label\na.png,cat\nc.png,dog\n'),
    ('quotes that nothing closes', 'file,label\n"a.png,cat\n'),
]
SEVERAL = 'train.py CONFIG, multi-label'
cases('Labels of images', [(what, SEVERAL, csv(text)) for what, text in IN_CSV])
cases('Labels of images', [
    ('a folder for one class alone', f'{ONE} --data FOLDER', one_class),
    ('a class without an image', ONE, lambda at: classify(at, 'cat', empty=['dog'])),
    ('another number of classes in the head', ONE, lambda at: classify(at, 'cat', 'dog', 'eel')),
    ('a line without a label', ONE, no_label),
])  # fmt: skip
