"""The same four images with six boxes, as the labelling tools export them."""

import csv
import json
import unicodedata

import numpy as np
from planted_coco import HEIGHT, WIDTH, save_image
from pycocotools.mask import encode

NAMES = ('a b', 'häuser', 'c', 'd')  # the last one is for validation, where there is such a split
BOXES = {  # left, top, right, bottom
    'a b': [('cat', (2, 4, 22, 20)), ('dog', (10, 12, 40, 36))],
    'häuser': [('cat', (24, 6, 44, 36))],
    'c': [('dog', (4, 4, 20, 24)), ('dog', (20, 8, 44, 32))],
    'd': [('cat', (8, 8, 32, 32))],
}
CLASSES = ('cat', 'dog')


def save(path, name):
    save_image(path, NAMES.index(name))


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text if isinstance(text, str) else json.dumps(text))


def split_of(name):
    return 'val' if name == 'd' else 'train'


def rows(name):
    return ''.join(
        f'{CLASSES.index(k)} {(x + r) / 2 / WIDTH:.6f} {(y + b) / 2 / HEIGHT:.6f} '
        f'{(r - x) / WIDTH:.6f} {(b - y) / HEIGHT:.6f}\n'
        for k, (x, y, r, b) in BOXES[name]
    )


def xml(name, filename=None, path=''):
    objects = ''.join(
        f'<object><name>{k}</name><bndbox><xmin>{x + 1}</xmin><ymin>{y + 1}</ymin><xmax>{r}</xmax>'
        f'<ymax>{b}</ymax></bndbox></object>'
        for k, (x, y, r, b) in BOXES[name]
    )
    return (
        f'<annotation><filename>{filename or name}.jpg</filename><path>{path}</path><size>'
        f'<width>{WIDTH}</width><height>{HEIGHT}</height></size>{objects}</annotation>'
    )


def coco(names, called, **more):
    content = dict(images=[], annotations=[], categories=[])
    content['categories'] = [dict(id=i, name=k) for i, k in enumerate(CLASSES)]
    for i, name in enumerate(names):
        image = dict(id=i, file_name=called(name), width=WIDTH, height=HEIGHT)
        content['images'].append(image)
        content['annotations'] += [
            dict(id=len(content['annotations']) + j + 1, image_id=i, bbox=[x, y, r - x, b - y],
                 category_id=CLASSES.index(k), segmentation=[], area=(r - x) * (b - y), iscrowd=0,
                 **more)
            for j, (k, (x, y, r, b)) in enumerate(BOXES[name])
        ]  # fmt: skip
    return content


def upload(name):
    return f'{abs(hash(name)) % 16**8:08x}-{name}'


def cvat_yolo(root):
    write(root / 'obj.data', 'classes = 2\ntrain = data/train.txt\nvalid = data/valid.txt\n'
          'names = data/obj.names\nbackup = backup/\n')  # fmt: skip
    write(root / 'obj.names', 'cat\ndog\n')
    lists = dict(train='', val='')
    for name in NAMES:
        place = f'obj_{split_of(name)}_data/task 1'
        save(root / place / f'{name}.jpg', name)
        write(root / place / f'{name}.txt', rows(name))
        lists[split_of(name)] += f'data/{place}/{name}.jpg\n'
    write(root / 'train.txt', lists['train'])
    write(root / 'valid.txt', lists['val'])


def cvat_yolo_lists(root):
    """The lists as the file names them, the images next to their folder."""
    cvat_yolo(root)
    (root / 'data').mkdir()
    for name in ('obj.names', 'train.txt', 'valid.txt'):
        (root / name).rename(root / 'data' / name)


def cvat_ultralytics(root):
    write(root / 'data.yaml', 'path: .\ntrain: train.txt\nval: val.txt\nnames:\n  0: cat\n  1: dog')
    for name in NAMES:
        split = split_of(name)
        save(root / f'images/{split}/{name}.jpg', name)
        write(root / f'labels/{split}/{name}.txt', rows(name))
        with (root / f'{split}.txt').open('a') as file:
            file.write(f'data/images/{split}/{name}.jpg\n')


def elsewhere(text, ending='.txt', form=None, names='[cat, dog]'):
    """YOLO whose data.yaml is of another machine, or whose label files have other names."""

    def write_it(root):
        for name in NAMES:
            split = split_of(name)
            stem = unicodedata.normalize(form, name) if form else name
            save(root / f'images/{split}/{name}.jpg', name)
            write(root / f'labels/{split}/{stem}{ending}', rows(name))
        write(root / 'data.yaml', f'{text}\nnames: {names}\n')

    return write_it


def cvat_voc(root):
    for name in NAMES:
        save(root / f'JPEGImages/task 1/{name}.jpg', name)
        write(root / f'Annotations/task 1/{name}.xml', xml(name, f'task 1/{name}'))
    listed = [f'"task 1/{name}"' if ' ' in name else f'task 1/{name}' for name in NAMES]
    write(root / 'ImageSets/Main/default.txt', '\n'.join(listed))
    write(root / 'labelmap.txt', '# label:color_rgb:parts:actions\ncat:1,2,3::\ndog:4,5,6::\n')


def cvat_coco(root):
    for name in NAMES:
        save(root / f'images/task 1/{name}.jpg', name)
    content = coco(NAMES, lambda name: f'task 1/{name}.jpg', attributes=dict(occluded=False))
    write(root / 'annotations/instances_default.json', content)


def labelimg_voc(root):
    for name in NAMES:
        save(root / f'{name}.jpg', name)
        write(root / f'{name}.xml', xml(name, path=f'C:\\Users\\me\\{name}.jpg'))


def labelimg_yolo(root):
    write(root / 'classes.txt', 'cat\ndog\n')
    for name in NAMES:
        save(root / f'{name}.jpg', name)
        write(root / f'{name}.txt', rows(name))


def kaggle_voc(root, ending='.xml', folder='annotations'):
    for i, name in enumerate(NAMES):
        save(root / f'images/{name}.jpg', name)
        write(root / folder / f'{name}{".xml" if i else ending}', xml(name))


def roboflow(root, save_labels):
    for name in NAMES:
        folder = root / split_of(name).replace('val', 'valid')
        folder.mkdir(exist_ok=True, parents=True)
        save_labels(folder, name, f'{name.replace(" ", "-")}_jpg.rf.0a1b2c')
    return root


def roboflow_coco(root):
    def save_labels(folder, name, called):
        save(folder / f'{called}.jpg', name)

    roboflow(root, save_labels)
    for split, names in (('train', NAMES[:3]), ('valid', NAMES[3:])):
        content = coco(names, lambda name: f'{name.replace(" ", "-")}_jpg.rf.0a1b2c.jpg')
        write(root / split / '_annotations.coco.json', content)


def roboflow_voc(root):
    def save_labels(folder, name, called):
        save(folder / f'{called}.jpg', name)
        write(folder / f'{called}.xml', xml(name, called))

    roboflow(root, save_labels)


def roboflow_yolo(root):
    def save_labels(folder, name, called):
        save(folder / f'images/{called}.jpg', name)
        write(folder / f'labels/{called}.txt', rows(name))

    roboflow(root, save_labels)
    write(root / 'data.yaml', 'train: ../train/images\nval: ../valid/images\ntest: ../test/images\n'
          "\nnc: 2\nnames: ['cat', 'dog']\n")  # fmt: skip


def roboflow_darknet(root):
    def save_labels(folder, name, called):
        save(folder / f'{called}.jpg', name)
        write(folder / f'{called}.txt', rows(name))
        write(folder / '_darknet.labels', 'cat\ndog\n')

    roboflow(root, save_labels)


def roboflow_tensorflow(root):
    def save_labels(folder, name, called):
        save(folder / f'{called}.jpg', name)
        file = folder / '_annotations.csv'
        if not file.exists():
            file.write_text('filename,width,height,class,xmin,ymin,xmax,ymax\n')
        with file.open('a') as stream:
            for k, box in BOXES[name]:
                stream.write(f'{called}.jpg,{WIDTH},{HEIGHT},{k},{",".join(map(str, box))}\n')

    roboflow(root, save_labels)


def label_studio_coco(root, called=lambda name: f'images\\{upload(name)}.jpg', prefix=upload):
    for name in NAMES:
        save(root / f'images/{prefix(name)}.jpg', name)
    write(root / 'result.json', coco(NAMES, called))


def label_studio_yolo(root):
    """Of the images as they were before the upload: only the labels have the prefix."""
    write(root / 'classes.txt', 'cat\ndog\n')
    write(root / 'notes.json', dict(categories=[dict(id=0, name='cat')], info=dict(year=2024)))
    for name in NAMES:
        save(root / f'images/{name}.jpg', name)
        write(root / f'labels/{upload(name)}.txt', rows(name))


def labelme(root, image_path=lambda name: f'..\\images\\{name}.jpg', kind='rectangle', start=''):
    for name in NAMES:
        save(root / f'images/{name}.jpg', name)
        every = 2 if kind == 'rectangle' else 1  # its two corners, or all four
        shapes = [
            dict(label=k, shape_type=kind, group_id=None, flags={},
                 points=[[x, y], [r, y], [r, b], [x, b]][::every])
            for k, (x, y, r, b) in BOXES[name]
        ]  # fmt: skip
        content = dict(version='5.3', flags={}, shapes=shapes, imagePath=image_path(name),
                       imageData=None, imageHeight=HEIGHT, imageWidth=WIDTH)  # fmt: skip
        write(root / f'labels/{start}{name}.json', content)
    write(root / 'labels/settings.json', dict(theme='dark'))


def via(root):
    content = {}
    for name in NAMES:
        save(root / f'images/{name}.jpg', name)
        regions = [
            dict(shape_attributes=dict(name='rect', x=x, y=y, width=r - x, height=b - y),
                 region_attributes={'sharp': 'no', 'type': k if k == 'cat' else {k: True}})
            for k, (x, y, r, b) in BOXES[name]
        ]  # fmt: skip
        content[f'{name}.jpg123'] = dict(filename=f'{name}.jpg', size=123, regions=regions,
                                         file_attributes={})  # fmt: skip
    write(root / 'via_project.json', dict(_via_settings={}, _via_img_metadata=content))


def via_csv(root):
    root.mkdir()
    with (root / 'via_export_csv.csv').open('w', newline='') as stream:
        writer = csv.writer(stream)
        writer.writerow(['filename', 'file_size', 'file_attributes', 'region_count', 'region_id',
                         'region_shape_attributes', 'region_attributes'])  # fmt: skip
        for name in NAMES:
            save(root / f'{name}.jpg', name)
            for i, (k, (x, y, r, b)) in enumerate(BOXES[name]):
                shape = dict(name='rect', x=x, y=y, width=r - x, height=b - y)
                if k == 'dog':
                    points = dict(all_points_x=[x, r, r, x], all_points_y=[y, y, b, b])
                    shape = dict(name='polygon', **points)
                row = [f'{name}.jpg', 9, '{}', 2, i, json.dumps(shape), json.dumps(dict(type=k))]
                writer.writerow(row)


def cvat_images(subsets):
    def write_it(root):
        images = []
        for i, name in enumerate(NAMES):
            subset = dict(train='Train', val='Validation')[split_of(name)] if subsets else ''
            save(root / f'images/{subset}/{name}.jpg', name)
            shapes = []
            for k, (x, y, r, b) in BOXES[name]:
                cx, cy, w, h = (x + r) / 2, (y + b) / 2, r - x, b - y
                at = f'xtl="{x}" ytl="{y}" xbr="{r}" ybr="{b}"'
                if name == 'c':  # lying on its side before it is turned
                    at = (f'xtl="{cx - h / 2}" ytl="{cy - w / 2}" xbr="{cx + h / 2}" '
                          f'ybr="{cy + w / 2}" rotation="90.0"')  # fmt: skip
                shapes.append(f'<box label="{k}" occluded="0" {at}><attribute name="a">b'
                              '</attribute></box>')  # fmt: skip
            if name == 'a b':
                points = ';'.join(f'{v},{w}' for v, w in ((10, 12), (40, 20), (20, 36)))
                shapes[1] = f'<polygon label="dog" points="{points}"/><tag label="x"></tag>'
            at = f'subset="{subset}" ' * subsets + f'width="{WIDTH}" height="{HEIGHT}"'
            images.append(f'<image id="{i}" name="{name}.jpg" {at}>{"".join(shapes)}</image>')
        write(
            root / 'annotations.xml',
            '<?xml version="1.0" encoding="utf-8"?><annotations>'
            f'<version>1.1</version><meta><task/></meta>{"".join(images)}</annotations>',
        )

    return write_it


def datumaro(root, masks=False):
    labels = [dict(name=k, parent='', attributes=[]) for k in CLASSES]
    for split in ('train', 'val'):
        items = []
        for name in filter(lambda n: split_of(n) == split, NAMES):
            save(root / f'images/{split}/{name}.jpg', name)
            found = [
                dict(id=i, type='bbox', label_id=CLASSES.index(k), bbox=[x, y, r - x, b - y],
                     attributes={}, group=0, z_order=0)
                for i, (k, (x, y, r, b)) in enumerate(BOXES[name])
            ]  # fmt: skip
            for one, (_, (x, y, r, b)) in zip(found * masks, BOXES[name], strict=False):
                pixels = np.zeros((HEIGHT, WIDTH), np.uint8, order='F')
                pixels[y:b, x:r] = 1
                code = encode(pixels)
                one.update(type='mask', rle=dict(code, counts=code['counts'].decode()))
                del one['bbox']
            image = dict(path=f'{name}.jpg', size=[HEIGHT, WIDTH])
            items.append(dict(id=name, annotations=found, image=image))
        categories = dict(label=dict(labels=labels, attributes=[]))
        write(root / f'annotations/{split}.json', dict(info={}, categories=categories, items=items))


def supervisely(root, inner='ds0'):
    write(root / 'meta.json', dict(classes=[dict(title=k, shape='rectangle') for k in CLASSES]))
    for name in NAMES:
        save(root / inner / f'img/{name}.jpg', name)
        found = [
            dict(classTitle=k, geometryType='rectangle',
                 points=dict(exterior=[[x, y], [r, b]], interior=[]))
            for k, (x, y, r, b) in BOXES[name]
        ]  # fmt: skip
        content = dict(
            description='', tags=[], size=dict(height=HEIGHT, width=WIDTH), objects=found
        )
        write(root / inner / f'ann/{name}.jpg.json', content)


def open_images(root, folder='.'):
    write(root / folder / 'class-descriptions-boxable.csv', '/m/01yrx,cat\n/m/0bt9lr,dog\n')
    for split in ('train', 'validation'):
        with (root / folder / f'{split}-annotations-bbox.csv').open('w', newline='') as stream:
            writer = csv.writer(stream)
            writer.writerow(['ImageID', 'Source', 'LabelName', 'XMin', 'XMax', 'YMin', 'YMax'])
            for name in NAMES:
                if split.startswith(split_of(name)):
                    save(root / f'{split}/{name}.jpg', name)
                    writer.writerows(
                        [name, 'x', dict(cat='/m/01yrx', dog='/m/0bt9lr')[k], x / WIDTH,
                         r / WIDTH, y / HEIGHT, b / HEIGHT]
                        for k, (x, y, r, b) in BOXES[name]
                    )  # fmt: skip


def csv_table(header, *numbers):
    """A CSV of boxes with what each number in its rows is made by, of left, top, right, bottom."""

    def write_it(root):
        table = [f'file,class,{header}']
        for name in NAMES:
            save(root / f'images/{name}.jpg', name)
            for k, box in BOXES[name]:
                table.append(f'{name}.jpg,{k},{",".join(str(f(*box)) for f in numbers)}')
        write(root / 'labels.csv', '\n'.join(table))

    return write_it


def in_folders(images, labels, text=None):
    """YOLO in folders for which ``{}`` is the split."""

    def write_it(root):
        for name in NAMES:
            split = split_of(name).capitalize()
            save(root / images.format(split) / f'{name}.jpg', name)
            write(root / labels.format(split) / f'{name}.txt', rows(name))
        write(root / ('data.yaml' if text else 'classes.txt'), text or 'cat\ndog\n')

    return write_it


def voc_in_capitals(root):
    for name in NAMES:
        save(root / f'{split_of(name).upper()}/IMAGES/{name}.jpg', name)
        write(root / f'{split_of(name).upper()}/XML/{name}.XML', xml(name))


def coco_of_splits(root):
    """Each split has folders of its own, as exports of CVAT have that were put together."""
    for split, names in (('Train', NAMES[:3]), ('Valid', NAMES[3:])):
        for name in names:
            save(root / split / f'Images/{name}.jpg', name)
        write(root / split / 'Annotations/instances_default.json', coco(names, '{}.jpg'.format))
