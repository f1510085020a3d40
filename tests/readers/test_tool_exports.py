"""Exports of labelling tools are trained on as they come, and both tools say the same of them."""

import json
import unicodedata
from codecs import BOM_UTF8
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
import tool_exports as by
from mmdet.registry import DATASETS
from tool_exports import BOXES, CLASSES, NAMES, coco, labelme, roboflow, save, upload, via, write

from tresnet_det.engine import config as edit
from tresnet_det.engine import own_data
from tresnet_det.errors import InputError
from tresnet_det.readers.layouts import find_layout
from tresnet_det.readers.prepare import prepare_splits


def marked(export, files):
    """An export of which the files begin with a byte order mark."""

    def write_it(root):
        export(root)
        for file in root.glob(files):
            file.write_bytes(BOM_UTF8 + file.read_bytes())

    return write_it


def renamed(called, ending='.jpg', form=None, size=None):
    """COCO in one folder of images, whose names in the file are made by ``called``."""

    def write_it(root):
        for name in NAMES:
            stem = unicodedata.normalize(form, name) if form else name
            path = root / f'images/{stem}{ending}'
            save(path.with_suffix('.jpg'), name)
            path.with_suffix('.jpg').rename(path)
        content = coco(NAMES, called)
        if size is not None:
            for image in content['images']:
                image.update(width=size, height=size)
        write(root / 'labels.json', content)

    return write_it


SIZES = (  # left, top, width, height
    lambda x, y, r, b: x, lambda x, y, r, b: y, lambda x, y, r, b: r - x, lambda x, y, r, b: b - y
)  # fmt: skip
EXPORTS = {  # who writes it, the kind, the rule that is told
    'CVAT YOLO 1.1': (by.cvat_yolo, 'yolo', 'in another folder'),
    'CVAT YOLO 1.1, lists in data/': (by.cvat_yolo_lists, 'yolo', 'in another folder'),
    'CVAT Ultralytics YOLO': (by.cvat_ultralytics, 'yolo', 'in another folder'),
    'CVAT VOC, with a folder of the task': (by.cvat_voc, 'voc', ''),
    'CVAT COCO, with a folder of the task': (by.cvat_coco, 'coco', ''),
    'labelImg VOC': (by.labelimg_voc, 'voc', ''),
    'labelImg YOLO': (by.labelimg_yolo, 'yolo', ''),
    'VOC without lists': (by.kaggle_voc, 'voc', ''),
    'VOC without lists, a file in capitals': (lambda r: by.kaggle_voc(r, '.XML'), 'voc', ''),
    'VOC in annotations/xmls, as Oxford pets': (
        lambda r: by.kaggle_voc(r, folder='annotations/xmls'), 'voc', ''),
    'Roboflow COCO': (by.roboflow_coco, 'coco', ''),
    'Roboflow VOC': (by.roboflow_voc, 'voc', ''),
    'Roboflow YOLO': (by.roboflow_yolo, 'yolo', ''),
    'Roboflow Darknet': (by.roboflow_darknet, 'yolo', ''),
    'Roboflow TensorFlow CSV': (by.roboflow_tensorflow, 'boxes', ''),
    'Label Studio COCO': (by.label_studio_coco, 'coco', 'by backslashes'),
    'Label Studio YOLO, images without prefix': (
        by.label_studio_yolo, 'yolo', "without Label Studio's prefix"),
    'YOLO, numbers as text': (
        by.elsewhere('train: images/train\nval: images/val', names="{'0': cat, '1': dog}"), 'yolo',
        ''),
    "YOLO with another machine's folder": (
        by.elsewhere('path: /content/x\ntrain: images/train\nval: images/val'), 'yolo', ''),
    "YOLO with another machine's paths": (
        by.elsewhere('train: C:\\me\\images\\train\nval: C:\\me\\images\\val'), 'yolo', 'is taken'),
    'YOLO with decomposed labels': (
        by.elsewhere('train: images/train\nval: images/val', form='NFD'), 'yolo', 'Unicode form'),
    'YOLO with labels in capitals': (
        by.elsewhere('train: images/train\nval: images/val', '.TXT'), 'yolo', 'case of letters'),
    'YOLO with two endings': (
        by.elsewhere('train: images/train\nval: images/val', '.jpg.txt'), 'yolo', 'an ending that'),
    'LabelMe': (by.labelme, 'labelme', ''),
    'X-AnyLabeling, renamed since': (
        lambda root: by.labelme(root, lambda name: f'old-{name}.png', 'polygon'), 'labelme',
        'an ending that the name lacks'),
    'LabelMe, files of other names': (
        lambda root: by.labelme(root, lambda name: f'C:\\me\\{name}.jpg', start='of '), 'labelme',
        'in another folder'),
    'VGG Image Annotator': (by.via, 'via', ''),
    "VGG Image Annotator's CSV": (by.via_csv, 'via_csv', ''),
    'CVAT for images': (by.cvat_images(False), 'cvat', ''),
    'CVAT for images, a project': (by.cvat_images(True), 'cvat', ''),
    'Datumaro': (by.datumaro, 'datumaro', ''),
    'Datumaro with masks': (lambda root: by.datumaro(root, True), 'datumaro', ''),
    'COCO, 0 x 0 images': (renamed(lambda n: f'{n}.jpg', size=0), 'coco', 'no width or height'),
    'Supervisely': (by.supervisely, 'supervisely', ''),
    'Supervisely, a dataset in a dataset': (
        lambda root: by.supervisely(root, 'ds0/datasets/ds1'), 'supervisely', ''),
    'CSV of x, y, w, h': (
        by.csv_table('x,y,w,h', *SIZES), 'boxes', ''),
    'CSV of x, y, width, height': (by.csv_table('x,y,width,height', *SIZES), 'boxes', ''),
    'CSV of corner and size': (by.csv_table('xmin,ymin,width,height', *SIZES), 'boxes', ''),
    'CSV of COCO boxes, with the size of the image': (
        by.csv_table('bbox_x,bbox_y,bbox_width,bbox_height,width,height', *SIZES,
                     lambda *_: 48, lambda *_: 40), 'boxes', ''),
    'CSV of centres': (
        by.csv_table('x_center,y_center,width,height', lambda x, y, r, b: (x + r) / 2,
                     lambda x, y, r, b: (y + b) / 2, *SIZES[2:]), 'boxes', ''),
    'YOLO in Images/Train': (by.in_folders('Images/{}', 'Labels/{}'), 'yolo', ''),
    'YOLO in Train/IMAGES': (by.in_folders('{}/IMAGES', '{}/LABELS'), 'yolo', ''),
    'YOLO, a data.yaml in small letters': (
        by.in_folders('Images/{}', 'Labels/{}',
                      'train: images/train\nval: images/val\nnames: [cat, dog]'),
        'yolo', 'images/train is not found, '),
    'VOC in TRAIN/XML': (by.voc_in_capitals, 'voc', ''),
    'COCO in folders of its own for each split': (by.coco_of_splits, 'coco', ''),
    'Open Images': (by.open_images, 'boxes', 'an ending that the name lacks'),
    'Open Images, its files in a folder': (
        lambda root: by.open_images(root, 'csv'), 'boxes', 'an ending that the name lacks'),
    'COCO with a byte order mark': (
        marked(renamed('{}.jpg'.format), 'labels.json'), 'coco', 'a byte order mark'),
    'LabelMe with a byte order mark': (marked(by.labelme, 'labels/*.json'), 'labelme', ''),
    'Label Studio COCO of images with spaces': (
        lambda root: by.label_studio_coco(
            root, lambda n: f'../upload/1/{upload(n.replace(" ", "_"))}.jpg', str),
        'coco', "Label Studio's prefix"),
    'COCO with backslashes': (renamed(lambda n: f'C:\\data\\{n}.jpg'), 'coco', 'backslashes'),
    'COCO with ../': (renamed(lambda n: f'../../elsewhere/{n}.jpg'), 'coco', 'another folder'),
    "COCO with another machine's paths": (
        renamed(lambda n: f'/home/me/{n}.jpg'), 'coco', 'another folder'),
    'COCO with URLs': (
        renamed(lambda n: f'https://host/get/{quote(n)}.jpg?token=1'), 'coco', 'URL encoding'),
    'COCO of local files in Label Studio': (
        renamed(lambda n: f'/data/local-files/?d=my/{quote(n)}.jpg'), 'coco', 'URL encoding'),
    'COCO with decomposed letters': (
        renamed(lambda n: f'{n}.jpg', form='NFD'), 'coco', 'Unicode form'),
    'COCO with endings in capitals': (
        renamed(lambda n: f'{n}.jpg', '.JPG'), 'coco', 'the case of letters'),
    'COCO without endings': (renamed(lambda n: n), 'coco', 'an ending that the name lacks'),
    'COCO with the names of an upload': (
        renamed(lambda n: f'/data/upload/1/{by.upload(n)}.jpg'), 'coco', "Studio's prefix"),
}  # fmt: skip


def summary_of(result):
    assert 'error ' not in result.out, result.out
    (line,) = (line for line in result.out.splitlines() if line.startswith('data: '))
    return line


@pytest.fixture(scope='module')
def known(tmp_path_factory):
    """The images by their bytes: an export may call them anything."""
    folder = tmp_path_factory.mktemp('known')
    for name in BOXES:
        save(folder / f'{name}.jpg', name)
    return {file.read_bytes(): file.stem for file in folder.iterdir()}


def objects_of(dataset, known):
    """All that training sees of a dataset: image, class and corners, sorted."""
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    return sorted(
        (known[Path(info['img_path']).read_bytes()], dataset.metainfo['classes'][o['bbox_label']],
         tuple(np.round(o['bbox'])))
        for info in infos
        for o in info['instances']
        if not o['ignore_flag']
    )  # fmt: skip


@pytest.mark.parametrize('name', EXPORTS)
def test_an_export_is_trained_on_as_it_comes(name, run, known, project_root, tmp_path):
    export, kind, rule = EXPORTS[name]
    root = tmp_path / 'own'
    export(root)
    before = sorted(root.rglob('*'))
    checked = run('check_data', root, '--no-decode')
    assert checked.code == 0, checked.printed
    cfg = edit.load_config(project_root / 'configs/fcos_tresnet_m.py')
    data = own_data.use_folder(cfg, root, tmp_path / 'out', None)
    assert data.layout.kind == kind
    assert own_data.summarize_data(cfg, data) == summary_of(checked)
    for told in (checked.out, '\n'.join(data.notes)):
        assert rule in told
    found = []
    for split in ('train', 'val'):
        dataset = DATASETS.build(dict(cfg[f'{split}_dataloader'].dataset, pipeline=[]))
        seen = objects_of(dataset, known)
        assert f'{split} {len(dataset)} images with {len(seen)} boxes' in summary_of(checked)
        found += seen
    assert sorted(found) == sorted((n, k, box) for n, boxes in BOXES.items() for k, box in boxes)
    assert data.classes == CLASSES
    assert sorted(root.rglob('*')) == before  # nothing is written into it


HEADER = 'filename,width,height,class,xmin,ymin,xmax,ymax\n'
ROWS = 'c.jpg,48,40,cat,2,3,20,30\nd.jpg,48,40,dog,4,5,30,32\n'
BOX_TABLES = {  # text of a CSV of boxes; what is wrong, empty where nothing is
    'semicolons, as Excel writes': ((HEADER + ROWS).replace(',', ';'), ''),
    'tabs': ((HEADER + ROWS).replace(',', '\t'), ''),
    'blank lines': (f'\n{HEADER} \n\n{ROWS},,,,,,,\n', ''),
    'blank lines alone': (f'\n\n{HEADER} \n\n{ROWS}\n \n', ''),
    'a byte order mark, quotes': ('\ufeff' + HEADER + ROWS.replace('cat', '"cat"'), ''),
    'no sizes': (HEADER + ROWS.replace('48,40', ','), ''),
    'sizes of 0': (HEADER + ROWS.replace('48,40', '0,0'), ''),
    'empty cells at the end': (HEADER + ROWS.replace('\n', ',,\n'), ''),
    'a size of text': (HEADER + ROWS.replace('48,40', 'w,h'), 'csv:2: width or height is no'),
    'decimal commas': (
        HEADER + ROWS.replace('4,5,30,32', '4,5,5,5,30,5,32,5'), 'csv:3: 12 cells where the'),
    'a row too short': (HEADER + ROWS + 'c.jpg,48\n', 'csv:4: 2 cells where the header has 8'),
    'no name': (HEADER + ROWS + ',48,40,cat,1,2,3,9\n', 'csv:4: has no name of an image'),
    'open quotes': (HEADER + ROWS + '"c.jpg,48,40,cat,1,2,3,9\n', 'csv:4: no CSV (unexpected'),
    'a cell of 200,000 letters': (
        HEADER + ROWS.replace('dog', 'd' * 200_000), 'csv:3: no CSV (field larger'),
}  # fmt: skip


@pytest.mark.parametrize('name', BOX_TABLES)
def test_a_csv_of_boxes_is_read_or_its_row_is_named(name, run, tmp_path):
    text, wrong = BOX_TABLES[name]
    root = tmp_path / 'own'
    for image in 'cd':
        save(root / f'images/{image}.jpg', image)
    write(root / 'train.csv', text)
    checked = run('check_data', root, '--no-decode')
    layout = find_layout(root, 'detection')
    if wrong:
        assert checked.code == 1
        assert wrong in checked.out
        with pytest.raises(InputError) as caught:
            prepare_splits(layout, 'detection', tmp_path / 'out')
        assert wrong in str(caught.value)
        assert '\n' not in str(caught.value)
    else:
        ready = prepare_splits(layout, 'detection', tmp_path / 'out')
        said = [
            f'{role} {s.counts.num_images} images with {s.counts.num_objects} boxes'
            for role, s in ready.splits.items()
        ]
        assert f'data: {", ".join(said)}; 2 classes' in summary_of(checked)
        assert sum(split.counts.num_objects for split in ready.splits.values()) == 2


def test_roboflows_multi_label_csv(run, tmp_path):
    def save_labels(folder, name, called):
        save(folder / f'{called}.jpg', name)
        file = folder / '_classes.csv'
        text = file.read_text() if file.exists() else 'filename, cat, dog\n'
        ticks = ', '.join(str(int(any(k == c for k, _ in BOXES[name]))) for c in CLASSES)
        file.write_text(f'{text}{called}.jpg, {ticks}\n')

    root = tmp_path / 'own'
    roboflow(root, save_labels)
    ready = prepare_splits(find_layout(root, 'multilabel'), 'multilabel', tmp_path / 'out')
    assert (ready.layout.kind, ready.classes) == ('csv', CLASSES)
    checked = run('check_data', root, '--no-decode')
    said = 'data: train 3 images with 4 labels, val 1 images with 1 labels; 2 classes: '
    assert summary_of(checked) == f"{said}'cat', 'dog'"


def test_a_name_that_no_rule_explains_is_told_with_what_differs(tmp_path):
    root = tmp_path / 'own'
    renamed(lambda name: f'{name}.png')(root)
    with pytest.raises(
        InputError, match=r"'a b\.png', and no folder .* \(there is images/a b\.jpg\)"
    ):
        prepare_splits(find_layout(root, 'detection'), 'detection', tmp_path / 'out')
    (root / 'images/c.jpg').rename(root / 'images/c.png')
    with pytest.raises(InputError, match=r'3 of 4, first a b\.png \(there is a b\.jpg\)'):
        prepare_splits(find_layout(root, 'detection'), 'detection', tmp_path / 'out')


def test_a_name_that_two_files_could_be_is_not_guessed(tmp_path):
    root = tmp_path / 'own'
    renamed(lambda name: f'elsewhere/{name}.jpg')(root)
    save(root / 'more/c.jpg', 'd')
    with pytest.raises(InputError, match=r'1 of 4, first elsewhere/c\.jpg'):
        prepare_splits(find_layout(root, 'detection'), 'detection', tmp_path / 'out')


LACKING = {  # what is there, which layout comes closest, what it lacks
    'images alone': (lambda r: None, 'class folders', 'a folder of images for each class'),
    'labels without names': (
        lambda r: write(r / 'labels/b.txt', '0 .5 .5 1 1'), "YOLO's label files", 'a classes.txt'),
    'XML of another tool': (lambda r: write(r / 'a.xml', '<annotations/>'), 'Pascal VOC', '<anno'),
    'CSV without boxes': (lambda r: write(r / 'x.csv', 'file,x\n'), 'a CSV of boxes', 'columns of'),
    'COCO without boxes': (
        lambda r: write(r / 'a.json', dict(images=[], categories=[])), "COCO's JSON", "'annotat"),
    'LabelMe without shapes': (
        lambda r: write(r / 'a.json', dict(imagePath='c.jpg')), "LabelMe's JSON", "'shapes' in a"),
}  # fmt: skip


@pytest.mark.parametrize('name', LACKING)
def test_what_is_not_recognised_names_the_closest_layout_and_what_it_lacks(name, tmp_path):
    plant, layout, lacks = LACKING[name]
    save(tmp_path / 'c.jpg', 'c')
    plant(tmp_path)
    with pytest.raises(InputError, match=f'; closest: (.*, )?{layout} lacks {lacks}'):
        find_layout(tmp_path, 'classification' if name == 'images alone' else 'detection')


def of_first(change):
    """A change of VIA's first image."""
    return lambda content: change(next(iter(content['_via_img_metadata'].values())))


ODD = {  # an export, its files, what is changed in the first of them, what is said of it
    'a name that is a number': (
        via, 'via_project.json', of_first(lambda i: i.update(filename=7)), 'of an image is 7'),
    'no name': (
        via, 'via_project.json', of_first(lambda i: i.pop('filename')), "has no 'filename'"),
    'a corner of 400 digits': (
        via, 'via_project.json',
        of_first(lambda i: i['regions'][0]['shape_attributes'].update(x=10**400)), 'object 1'),
    'no class': (
        via, 'via_project.json', of_first(lambda i: i['regions'][0].update(region_attributes={})),
        "object 1 ('')"),
    'a width in words': (
        labelme, 'labels/*.json', lambda c: c.update(imageWidth='wide'), "float: 'wide'"),
    'half a letter in a class': (
        labelme, 'labels/*.json', lambda c: c['shapes'][0].update(label='\ud800'), 'object 1'),
    'shapes of text': (labelme, 'labels/*.json', lambda c: c.update(shapes='none'), 'labels/'),
}  # fmt: skip


@pytest.mark.parametrize('name', ODD)
def test_an_odd_record_is_one_line_of_both_tools(name, run, tmp_path):
    export, files, change, said = ODD[name]
    root = tmp_path / 'own'
    export(root)
    file = min(root.glob(files))
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    checked = run('check_data', root, '--no-decode')
    assert checked.code
    assert said in checked.printed
    assert 'Traceback' not in checked.printed
    with pytest.raises(InputError) as raised:
        prepare_splits(find_layout(root, 'detection'), 'detection', tmp_path / 'out')
    assert said in str(raised.value)


def test_a_csv_file_with_an_endless_cell_is_no_export(tmp_path):
    root = tmp_path / 'own'
    write(root / 'notes.csv', 'x' * 200_000)
    with pytest.raises(InputError, match='no layout that is known'):
        find_layout(root, 'detection')
