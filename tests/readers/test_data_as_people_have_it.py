"""What check_data passes, train trains, with the numbers that it printed; nothing is lost."""

import copy
import json
import os
import shlex
import shutil
import tempfile
from csv import writer
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.registry import DATASETS
from PIL import Image
from planted import LAYOUTS, codes, inspect_path
from planted_coco import Coco, save_image
from planted_yolo import Yolo
from test_tool_exports import summary_of
from tool_exports import labelme

from tresnet_det.engine import config as edit
from tresnet_det.engine import own_data
from tresnet_det.errors import InputError

# ---------------------------------------------------------------------------------------------
# Hidden and companion files


def accompany(root):
    """Put next to each file and folder what macOS, Windows and a NAS put there."""
    for path in sorted(root.rglob('*')):
        if path.is_file():
            path.with_name(f'._{path.name}').write_bytes(b'\0\5\x16\7')
            path.with_name(f'~${path.name}').write_bytes(b'\5user')  # Office's, while it is open
            path.with_name('.DS_Store').write_bytes(b'\0\0\0\1Bud1')
            path.with_name('Thumbs.db').write_text('x')
            (path.parent / f'@eaDir/{path.name}').mkdir(parents=True, exist_ok=True)
            shutil.copy(path, path.parent / f'@eaDir/{path.name}/SYNOFILE_THUMB_M{path.suffix}')
    for path in sorted(root.iterdir()):
        if not path.name.startswith(('.', '@', 'T')):
            target = root / '__MACOSX' / path.name
            target.parent.mkdir(exist_ok=True)
            (shutil.copytree if path.is_dir() else shutil.copy)(path, target)


def name_companions(root):
    """Name them in lists, as `ls > train.txt` does."""
    for file, row in (
        ('ImageSets/Main/train.txt', '\n._a\n'),
        ('train.csv', '._a.png,1,0\n'),
        ('train.txt', '\nimages/train/._0.jpg\n'),
    ):
        if (root / file).is_file():
            (root / file).write_text((root / file).read_text() + row)
    file = root / 'annotations/instances_train.json'
    if file.is_file():
        content = json.loads(file.read_text())
        content['images'].append(dict(content['images'][0], id=99, file_name='._train_0.jpg'))
        content['annotations'].append(dict(content['annotations'][0], id=99, image_id=99))
        file.write_text(json.dumps(content))


class ListedYolo(Yolo):
    def __init__(self, root):
        super().__init__(root)
        (root / 'train.txt').write_text('\n'.join(f'images/train/{i}.jpg' for i in range(4)))
        self.describe('train: train.txt\nval: images/val\nnames: [cat, dog]\n')


class LabelMe(Coco):
    def __init__(self, root):
        self.root = root
        labelme(root)

    def write(self):
        pass


WRITERS = {name: row[0] for name, row in LAYOUTS.items()}
WRITERS |= {'yolo by a list': ListedYolo, 'labelme': LabelMe}


@pytest.mark.parametrize('layout', WRITERS)
def test_hidden_and_companion_files_are_passed_over(layout, run, tmp_path):
    root = tmp_path / 'own'
    WRITERS[layout](root).write()
    clean = inspect_path(root, decode=False)
    said = summary_of(run('check_data', root, '--no-decode'))
    name_companions(root)
    accompany(root)
    report = inspect_path(root, decode=False)
    passed = {('train', 'filled-in'): 1} if layout == 'coco' else {}  # the one that it lists
    assert codes(report) == codes(clean) | passed
    assert summary_of(run('check_data', root, '--no-decode')) == said


# ---------------------------------------------------------------------------------------------
# What the dataset's own filter drops


def prepare(project_root, root, config='fcos_tresnet_m.py', **filter_cfg):
    cfg = edit.load_config(project_root / 'configs' / config)
    data = own_data.use_folder(cfg, root, root.parent / 'out', None)
    if filter_cfg:
        cfg.train_dataloader.dataset.filter_cfg.update(filter_cfg)
    lines = own_data.fit_training(cfg, data, {})
    dataset = DATASETS.build(dict(cfg.train_dataloader.dataset, pipeline=[]))
    return dataset, own_data.summarize_data(cfg, data), lines


SMALL = {  # sizes of the four images, which of them have boxes, filter_cfg; those that are kept
    'half below both': ([(48, 40), (31, 24)] * 2, 4, {}, 2),
    'one below in height': ([(48, 40)] * 3 + [(640, 31)], 4, {}, 3),
    'exactly 32': ([(32, 32)] * 4, 4, {}, 4),
    'small, and others without boxes': ([(31, 31)] + [(48, 40)] * 3, 3, {}, 2),
    'kept on demand': ([(31, 24)] * 4, 4, dict(min_size=0), 4),
    'a higher bound': ([(48, 40), (64, 64)] * 2, 4, dict(min_size=64), 2),
    'without boxes, kept': ([(48, 40)] * 4, 2, dict(filter_empty_gt=False), 4),
}


@pytest.mark.parametrize('name', SMALL)
def test_what_the_filter_drops_is_counted(name, run, project_root, tmp_path):
    sizes, boxed, filter_cfg, kept = SMALL[name]
    coco = Coco(tmp_path / 'own')
    for i, size in enumerate(sizes):
        save_image(coco.image('train', i), 50 + i, size)
        coco.train['images'][i].update(width=size[0], height=size[1])
    for annotation in coco.train['annotations']:
        annotation.update(bbox=[2, 3, 20, 18], area=360)
    coco.train['annotations'] = [a for a in coco.train['annotations'] if a['image_id'] <= boxed]
    coco.write()
    dataset, line, lines = prepare(project_root, coco.root, **filter_cfg)
    boxes = 3 * min(kept, boxed)
    of = '' if kept == 4 else ' of 4'
    assert f'data: train {kept}{of} images with {boxes} boxes, val 3 images' in line
    assert len(dataset) == kept
    assert ('are not trained on' in ''.join(lines)) == (kept < 4)
    assert f'epochs of {-(-kept // min(8, kept))} steps' in lines[-2]
    if not filter_cfg:
        assert summary_of(run('check_data', coco.root, '--workers', 0)) == line


def test_where_all_images_are_too_small_both_tools_say_so(run, project_root, tmp_path):
    coco = Coco(tmp_path / 'own')
    for i in range(4):
        save_image(coco.image('train', i), i, (31, 24))
        coco.train['images'][i].update(width=31, height=24)
    coco.write()
    checked = run('check_data', coco.root, '--no-decode')
    assert checked.code == 1
    said = 'no training image is left: 4 training images with a side below 32 pixels'
    assert f'instances_train.json: {said}' in checked.out
    with pytest.raises(InputError, match=f'own: {said}'):
        prepare(project_root, coco.root)


# ---------------------------------------------------------------------------------------------
# One limit of pixels


@pytest.mark.parametrize('layout', ['coco', 'voc', 'yolo', 'csv', 'folders'])
def test_one_limit_of_pixels_holds_for_all_layouts(layout, monkeypatch, tmp_path):
    monkeypatch.setenv('TRESNET_DET_MAX_PIXELS', '2000')
    data = WRITERS[layout](tmp_path / 'own')
    data.write()
    (large,) = sorted(data.root.rglob('*0.*g'))[:1] or sorted(data.root.rglob('a.*g'))[:1]
    assert 'undecodable-image' not in {code for _, code in codes(inspect_path(data.root))}
    with Image.open(large) as image:
        image.resize((60, 40)).save(large)
    report = inspect_path(data.root)
    (text,) = [f.examples[0] for f in report.findings if f.code == 'undecodable-image']
    assert 'too large (60 x 40, more than 2000 pixels)' in text


# ---------------------------------------------------------------------------------------------
# Both tools agree


def edit_boxes(**more):
    def change(coco):
        for annotation in coco.train['annotations']:
            annotation.update(more)

    return change


def drop_boxes(coco):
    for annotation in coco.train['annotations']:
        annotation.pop('bbox')


def same_names(folders):
    for i, name in enumerate(('cat', 'dog')):
        save_image(folders.root / f'train/{name}/same.png', 60 + i)


def name_classes(*names):
    def change(csv):
        rows = ('a', '1', '0'), ('b', '0', '1'), ('c', '1', '1'), ('v', '1', '0')
        with (csv.root / 'train.csv').open('w', newline='') as stream:
            writer(stream).writerow(('file', *names))
            writer(stream).writerows((f'{name}.png', *ticks) for name, *ticks in rows)
        (csv.root / 'val.csv').unlink()

    return change


def break_image(name, cut):
    def change(folders):
        file = folders.root / f'train/cat/{name}'
        save_image(file, 77, (64, 64))
        if cut is None:
            file.unlink()
            file.symlink_to('nowhere.jpg')
        else:
            file.write_bytes(file.read_bytes()[:cut])

    return change


def pipe(name):
    def change(data):
        (data.root / name).unlink(missing_ok=True)
        os.mkfifo(data.root / name)

    return change


def group(*folders):
    """Put class folders into others, ``'pets/cat'``."""

    def change(data):
        for split in ('train', 'val'):
            for folder in folders:
                (data.root / split / folder).parent.mkdir(exist_ok=True)
                shutil.move(data.root / split / Path(folder).name, data.root / split / folder)

    return change


FCOS, MULTI, SINGLE, MASKS = (
    'fcos_tresnet_m.py', 'multilabel_tresnet_m_448.py', 'transfer/tresnet_m_folders.py',
    'reuse/mask_rcnn_tresnet_m.py',
)  # fmt: skip
JUDGED = {  # layout, what is odd, by config what is said of it, empty where it is trained on
    'boxes that are crowds alone': (
        'coco', edit_boxes(iscrowd=1), {FCOS: 'nothing to learn or measure', MULTI: ''}),
    'no boxes': ('coco', edit_boxes(bbox=None), {FCOS: 'areas that are no numbers', MULTI: ''}),
    'entries without a box': ('coco', drop_boxes, {FCOS: "without 'bbox'", MULTI: ''}),
    'iscrowd 2': ('coco', edit_boxes(iscrowd=2), {FCOS: 'neither 0 nor 1', MULTI: ''}),
    'no outlines': ('coco', lambda coco: None, {FCOS: '', MASKS: 'boxes without outlines'}),
    'two images of a name': ('folders', same_names, {SINGLE: '', MULTI: 'of the same name'}),
    'an empty image': ('folders', break_image('a.jpg', 0), {SINGLE: 'not a readable image'}),
    'a truncated JPEG': ('folders', break_image('a.jpg', -100), {SINGLE: 'truncated'}),
    'a truncated PNG': ('folders', break_image('a.png', -40), {SINGLE: 'a.png: not a readable'}),
    'a link to nothing': ('folders', break_image('a.jpg', None), {SINGLE: 'a.jpg: not a readable'}),
    'a pipe': ('folders', pipe('train/cat/pipe.jpg'), {SINGLE: 'pipe.jpg: a pipe, socket or'}),
    'a pipe for a list': ('yolo by a list', pipe('train.txt'), {FCOS: 'train.txt: a pipe, socket'}),
    'a pipe for labels': ('yolo', pipe('labels/train/1.txt'), {FCOS: '1.txt: a pipe, socket or'}),
    'classes with line ends in their names': ('csv', name_classes('a\rb', 'c\nd'), {MULTI: ''}),
    'classes of quotes and separators': ('csv', name_classes('"a,b"', "';|"), {MULTI: ''}),
    'groups of classes': ('folders', group('pets/cat', 'wild/dog'), {SINGLE: ''}),
    'a group and a class': ('folders', group('pets/cat'), {SINGLE: ''}),
}  # fmt: skip


@pytest.mark.parametrize(
    ('name', 'config'), [(name, config) for name, (*_, said) in JUDGED.items() for config in said]
)
def test_both_tools_judge_for_the_task_of_the_config(name, config, run, project_root, tmp_path):
    layout, change, said = JUDGED[name]
    data = WRITERS[layout](tmp_path / 'own')
    change(data)
    data.write()
    checked = run('check_data', project_root / 'configs' / config, '--data', data.root)
    assert said[config] in checked.out
    assert checked.code == bool(said[config])
    cfg = edit.load_config(project_root / 'configs' / config)
    if said[config]:
        with pytest.raises(InputError, match=said[config]):
            own_data.use_folder(cfg, data.root, tmp_path / 'out', None)
    else:
        found = own_data.use_folder(cfg, data.root, tmp_path / 'out', None)
        assert own_data.summarize_data(cfg, found) == summary_of(checked)
        dataset = DATASETS.build(dict(cfg.train_dataloader.dataset, pipeline=[]))
        assert f'train {len(dataset)} images' in summary_of(checked)
        path = str(project_root / 'configs' / config)
        command = f'next: python tools/train.py {shlex.quote(path)} --data '
        assert command in checked.out


ODD = st.sampled_from([None] * 8 + ['flat', 'outside', 'crowd', 'no area', 'no iscrowd', 'twice'])
IMAGE = st.tuples(
    st.sampled_from([(48, 40)] * 4 + [(31, 64)]),
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 20), ODD), max_size=3),
)


def write_random(root, layout, splits):
    """Write images with boxes in COCO's, VOC's or YOLO's layout, with what is odd about some."""
    names, number = ('cat', 'dog'), 0
    for split, images in splits.items():
        content = dict(images=[], annotations=[])
        content['categories'] = [dict(id=i, name=name) for i, name in enumerate(names)]
        for i, ((width, height), boxes) in enumerate(images, 1):
            number += 1
            folder = dict(coco=split, voc='JPEGImages', yolo=f'images/{split}')[layout]
            save_image(root / folder / f'{split}{i}.png', number, (width, height))
            content['images'].append(
                dict(id=i, file_name=f'{split}{i}.png', width=width, height=height)
            )
            rows, objects = [], []
            for label, at, odd in boxes:
                w, h = (0, 9) if odd == 'flat' else (9, 11)
                x, y = (100, 100) if odd == 'outside' else (at, at + 1)
                one = dict(id=len(content['annotations']) + 1, image_id=i, category_id=label,
                           bbox=[x, y, w, h], area=w * h, iscrowd=int(odd == 'crowd'))  # fmt: skip
                one.pop({'no area': 'area', 'no iscrowd': 'iscrowd'}.get(odd, ''), None)
                content['annotations'].append(one)
                rows.append(f'{label} {(x + w / 2) / width} {(y + h / 2) / height} {w / width} '
                            f'{h / height}\n')  # fmt: skip
                objects.append(
                    f'<object><name>{names[label]}</name><difficult>{one.get("iscrowd", 0)}'
                    f'</difficult><bndbox><xmin>{x + 1}</xmin><ymin>{y + 1}</ymin><xmax>{x + w}'
                    f'</xmax><ymax>{y + h}</ymax></bndbox></object>'
                )
            files = dict(voc=(f'Annotations/{split}{i}.xml',
                              f'<annotation>{"".join(objects)}</annotation>'),
                         yolo=(f'labels/{split}/{split}{i}.txt', ''.join(rows)))  # fmt: skip
            if layout in files:
                path = root / files[layout][0]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(files[layout][1])
        if layout == 'coco':
            (root / f'{split}.json').write_text(json.dumps(content))
        if layout == 'voc':
            (root / 'ImageSets/Main').mkdir(parents=True, exist_ok=True)
            stems = '\n'.join(f'{split}{i}' for i in range(1, len(images) + 1))
            (root / f'ImageSets/Main/{split}.txt').write_text(stems)
    if layout == 'yolo':
        (root / 'classes.txt').write_text('\n'.join(names))


@pytest.fixture(scope='module')
def fcos_config(project_root):
    return edit.load_config(project_root / 'configs/fcos_tresnet_m.py')


@settings(max_examples=15)
@given(
    st.sampled_from(['coco', 'voc', 'yolo']),
    st.lists(IMAGE, min_size=1, max_size=5),
    st.lists(IMAGE, max_size=3),
)
def test_both_refuse_or_training_sees_what_was_announced(fcos_config, run, layout, train, val):
    with tempfile.TemporaryDirectory() as folder:
        root, cfg = Path(folder, 'own'), copy.deepcopy(fcos_config)
        write_random(root, layout, dict(train=train, **({'val': val} if val else {})))
        checked = run('check_data', root, '--workers', 0)
        refused = ''
        try:
            data = own_data.use_folder(cfg, root, Path(folder, 'out'), None)
            own_data.fit_training(cfg, data, {})
        except InputError as error:
            refused = str(error)
        assert bool(refused) == bool(checked.code)
        if refused:
            return
        line = summary_of(checked)
        assert own_data.summarize_data(cfg, data) == line
        for split in ('train', 'val'):
            dataset = DATASETS.build(dict(cfg[f'{split}_dataloader'].dataset, pipeline=[]))
            infos = [dataset.get_data_info(i) for i in range(len(dataset))]
            boxes = sum(not one['ignore_flag'] for i in infos for one in i['instances'])
            said = line.partition(f'{split} ')[2].partition(' boxes')[0].split()
            assert (int(said[0]), int(said[-1])) == (len(dataset), boxes)
            assert f'{len(dataset.metainfo["classes"])} classes' in line
