"""Mistakes in annotations and folders of data, each a function that makes one and meets it."""

import os

from bad_input_place import XML, YAML, BadPlace, case

TRAIN = 'train.py CONFIG'
DATA = f'{TRAIN} --data FOLDER'
ONE = f'{TRAIN}, single-label'
# ---------------------------------------------------------------------------------------------
IN_COCO = "Annotations in COCO's format"


def coco(what):
    """Register a change to COCO's content."""

    def register(change):
        @case(IN_COCO, what, TRAIN)
        def meet(at: BadPlace):
            at.coco(change)
            return at.train()

        return change

    return register


def coco_bytes(what):
    """Register a change to the bytes of a COCO file."""

    def register(change):
        @case(IN_COCO, what, TRAIN)
        def meet(at: BadPlace):
            at.coco(raw=change)
            return at.train()

        return change

    return register


@case(IN_COCO, 'the annotation file does not exist', TRAIN)
def no_annotations(at: BadPlace):
    return at.train()


@case(IN_COCO, 'the folder of the images does not exist', TRAIN)
def no_images(at: BadPlace):
    at.coco()
    return at.train('--cfg-options', 'train_dataloader.dataset.data_prefix.img=images')


@case(IN_COCO, 'an image does not exist', TRAIN)
def missing_image(at: BadPlace):
    at.coco()
    (at.root / 'coco/train/b.png').unlink()
    return at.train()


coco_bytes('the file is truncated')(lambda data: data[:200])
coco_bytes('the file is empty')(lambda data: b'')
coco_bytes('a byte order mark, as some editors write')(lambda data: b'\xef\xbb\xbf' + data)
coco_bytes('another encoding than UTF-8')(lambda data: data.decode().encode('utf-16'))
coco_bytes('brackets in brackets without end')(lambda data: b'[' * 100000)
coco_bytes('another kind of JSON')(lambda data: b'[]')


@coco('an annotation without a box')
def no_box(content):
    del content['annotations'][1]['bbox']


@coco('a box that is none')
def bad_box(content):
    content['annotations'][1]['bbox'] = [5, 5, None, 9]


@coco('a number that is none')
def not_a_number(content):
    content['annotations'][1]['area'] = float('nan')


@coco('an image without height')
def no_height(content):
    content['images'][1]['height'] = 0


@coco('two images with one id')
def twice(content):
    content['images'][1]['id'] = 7


@coco('an annotation of an image that is not in the file')
def lost_annotation(content):
    content['annotations'][1]['image_id'] = 8


@coco('an annotation of a category that is not in the file')
def lost_category(content):
    content['annotations'][1]['category_id'] = 4


@coco('categories in another order than the classes')
def other_order(content):
    content['categories'].reverse()


@coco('none of the classes')
def other_classes(content):
    for category in content['categories']:
        category['name'] = category['name'].upper()


@coco('no annotation at all')
def nothing_to_learn(content):
    content['annotations'].clear()


@coco('a crowd that is neither 0 nor 1')
def odd_crowd(content):
    content['annotations'][1]['iscrowd'] = 'no'


@case(IN_COCO, 'another number of classes in the head', TRAIN)
def other_head(at: BadPlace):
    at.coco()
    return at.train('--cfg-options', 'model.bbox_head.num_classes=80')


# ---------------------------------------------------------------------------------------------
OWN = 'Folders of your own'


@case(OWN, 'no folder there', DATA)
def no_folder(at: BadPlace):
    return at.train('--data', 'nowhere')


@case(OWN, 'no layout that is known', DATA)
def unknown_layout(at: BadPlace):
    at.image('pile/a.png')
    return at.train('--data', 'pile')


@case(OWN, 'two layouts in one folder', DATA)
def two_layouts(at: BadPlace):
    at.yolo()
    os.rename(at.root / 'yolo', at.root / 'coco')
    at.coco()
    return at.train('--data', 'coco')


@case(OWN, 'nothing in it is for training', DATA)
def no_training(at: BadPlace):
    at.coco()
    folder = at.root / 'coco/annotations'
    (folder / 'instances_train.json').rename(folder / 'instances_val.json')
    return at.train('--data', 'coco')


@case(OWN, 'classes that the checkpoint does not know', 'test.py CONFIG CHECKPOINT --data FOLDER')
def unknown_classes(at: BadPlace):
    at.coco()
    meta = dict(dataset_meta=dict(classes=('cat', 'horse')))
    return at.run('test', at.config(), at.checkpoint(meta=meta, state_dict={}), '--data', 'coco')


VOC, YOLO = 'Pascal VOC', 'YOLO'
VALUES = (
    ('XML that is truncated', XML[:80]),
    ('a document type with entities', f'<!DOCTYPE a [<!ENTITY b "c">]>{XML}'),
    ('a corner that is no number', XML.replace('<xmin>1<', '<xmin>one<')),
    ('another size than the image has', XML.replace('<width>40<', '<width>41<')),
    ('an object without a name', XML.replace('<name>cat</name>', '')),
)
for _what, _xml in VALUES:
    case(VOC, _what, DATA)(lambda at, xml=_xml: at.train('--data', at.voc(xml)))


@case(VOC, 'a list names an image that does not exist', DATA)
def voc_lost(at: BadPlace):
    return at.train('--data', at.voc(members='a\nc\n'))


@case(VOC, 'a list leads out of the folder', DATA)
def voc_escape(at: BadPlace):
    return at.train('--data', at.voc(members='../../a\n'))


@case(VOC, 'the target is there and comes from elsewhere', 'voc_to_coco.py VOC_ROOT OUT_DIR')
def voc_overwrite(at: BadPlace):
    at.write('out/annotations/instances_train.json', '{}')
    return at.run('voc_to_coco', at.voc(), 'out')


for _what, _rows in (
    ('pixels in place of fractions', '0 20 15 40 30\n'),
    ('a class that has no name', '2 0.5 0.5 1 1\n'),
    ('a row that is no box', '0 0.5 0.5\n'),
    ('a number that is none', '0 0.5 0.5 nan 1\n'),
):
    case(YOLO, _what, DATA)(lambda at, rows=_rows: at.train('--data', at.yolo(rows)))
for _what, _yaml in (
    ('no names of classes', YAML.replace('names', 'labels') + 'nc: 2\n'),
    ('a path that does not exist', YAML.replace('images/val', 'images/valid')),
    ('a name that YAML takes for a truth value', YAML.replace('dog', 'no')),
    ('YAML that would run code', YAML.replace('[cat, dog]', '!!python/name:os.system')),
):
    case(YOLO, _what, DATA)(lambda at, yaml=_yaml: at.train('--data', at.yolo(yaml=yaml)))

LABELS = 'Labels of images'
for _what, _text in (
    ('no header', 'a.png,cat\nb.png,dog\n'),
    ('a row of another form', 'file,cat,dog\na.png,1\n'),
    ('a value that is none', 'file,cat,dog\na.png,1,yes\n'),
    ('an image in two rows', 'file,label\na.png,cat\na.png,dog\n'),
    ('an image that does not exist', 'file,label\na.png,cat\nc.png,dog\n'),
    ('quotes that nothing closes', 'file,label\n"a.png,cat\n'),
):

    def _meet(at: BadPlace, text=_text):
        at.csv(text)
        return at.classify('MultiLabelDataset', 'AsymmetricLoss', 'csv', 'train.csv')

    case(LABELS, _what, 'train.py CONFIG, multi-label')(_meet)


@case(LABELS, 'a folder for one class alone', f'{ONE} --data FOLDER')
def one_class(at: BadPlace):
    at.classes('cat')
    return at.classify('ImageFolderDataset', 'CrossEntropyLoss', '.', '', '--data', 'classes')


@case(LABELS, 'a class without an image', ONE)
def empty_class(at: BadPlace):
    at.classes('cat')
    (at.root / 'classes/dog').mkdir()
    return at.classify('ImageFolderDataset', data_root='classes')


@case(LABELS, 'another number of classes in the head', ONE)
def other_classifier(at: BadPlace):
    at.classes('cat', 'dog', 'eel')
    return at.classify('ImageFolderDataset', data_root='classes')


@case(LABELS, 'a line without a label', ONE)
def no_label(at: BadPlace):
    at.csv('a.png cat\nb.png\n', 'csv/train.txt')
    return at.classify('ImageFolderDataset', data_root='csv', ann_file='train.txt')
