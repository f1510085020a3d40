"""YOLO label files as COCO content: boxes, sizes, names, and each fault with its file and row."""

import numpy as np
import pytest
from PIL import Image

from tresnet_det.datasets.formats.yolo import (
    YoloData,
    has_labels,
    label_file,
    read_data_yaml,
    read_yolo,
)
from tresnet_det.errors import InputError, MissingFileError

WIDTH, HEIGHT = 40, 20


def save(path, size=(WIDTH, HEIGHT), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', size, (90, 20, 200)).save(path, **options)


class TinyYolo:
    """Two images of 40 x 20 to learn from, one to validate on; two classes."""

    def __init__(self, root):
        self.root = root
        self.yaml = root / 'data.yaml'
        self.yaml.parent.mkdir()
        self.yaml.write_text('train: images/train\nval: images/val\nnames: [cat, dog]\n')
        for name in ('train/a', 'train/b', 'val/c'):
            save(root / f'images/{name}.png')
        self.label('train/a', '1 0.5 0.5 0.25 0.5', '0 0.125 0.25 0.25 0.5')
        self.label('val/c', '0 0.5 0.5 1 1')

    def label(self, name, *rows):
        file = self.root / f'labels/{name}.txt'
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text('\n'.join(rows))
        return file

    def read(self, *splits, classes=None):
        data = read_data_yaml(self.yaml)
        return read_yolo(data, splits or list(data.splits), classes)


@pytest.fixture
def yolo(tmp_path):
    return TinyYolo(tmp_path / 'set')


def boxes(content):
    return [(a['category_id'], a['bbox']) for a in content['annotations']]


def test_rows_are_centres_and_sides_in_fractions_of_the_image(yolo):
    result, warnings = yolo.read()
    content, folder = result['train']
    # 0.5 * 40 - 0.25 * 40 / 2 = 15, 0.5 * 20 - 0.5 * 20 / 2 = 5; the first class has the id 1.
    assert boxes(content) == [(2, [15, 5, 10, 10]), (1, [0, 0, 10, 10])]
    assert [a['area'] for a in content['annotations']] == [100, 100]
    assert [a['id'] for a in content['annotations']] == [1, 2]
    assert content['categories'] == [dict(id=1, name='cat'), dict(id=2, name='dog')]
    assert folder == yolo.root / 'images/train'
    assert [i['file_name'] for i in content['images']] == ['a.png', 'b.png']
    assert {(i['width'], i['height']) for i in content['images']} == {(WIDTH, HEIGHT)}
    assert warnings == []


def test_an_image_without_a_label_file_is_background(yolo):
    content = yolo.read()[0]['train'][0]
    (b,) = (i['id'] for i in content['images'] if i['file_name'] == 'b.png')
    assert b not in {a['image_id'] for a in content['annotations']}


def test_an_image_has_one_id_of_its_own_across_the_splits(yolo):
    result, _ = yolo.read()
    ids = [i['id'] for content, _ in result.values() for i in content['images']]
    assert sorted(ids) == [1, 2, 3]


def test_six_decimals_give_whole_pixels_back(yolo):
    save(yolo.root / 'images/train/a.png', (640, 480))
    x, y, w, h = 13, 7, 211, 101
    row = [0, (x + w / 2) / 640, (y + h / 2) / 480, w / 640, h / 480]
    yolo.label('train/a', ' '.join(f'{value:.6f}' for value in row))
    assert boxes(yolo.read()[0]['train'][0]) == [(1, [x, y, w, h])]


def test_a_polygon_becomes_the_box_around_it(yolo):
    yolo.label('train/a', '1 0.25 0.5 0.5 0.1 0.75 0.5', '0 0.1 0.1 0.2 0.1 0.2 0.3 0.1 0.3')
    (_, first), (_, second) = boxes(yolo.read()[0]['train'][0])
    np.testing.assert_allclose(first, [10, 2, 20, 8])
    np.testing.assert_allclose(second, [4, 2, 4, 4])


def test_an_image_that_exif_turns_is_measured_as_it_is_shown(yolo):
    import cv2

    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    (yolo.root / 'images/train/a.png').unlink()
    save(yolo.root / 'images/train/a.jpg', exif=exif)
    shown = cv2.imread(str(yolo.root / 'images/train/a.jpg')).shape  # as training loads it
    content = yolo.read()[0]['train'][0]
    assert (content['images'][0]['height'], content['images'][0]['width']) == shown[:2]
    # 0.25 of the 20 pixels that are now the width, 0.5 of the 40.
    assert boxes(content)[0] == (2, [7.5, 10, 5, 20])


def test_boxes_are_clipped_and_those_without_area_are_left_out(yolo):
    yolo.label(
        'train/a',
        '0 0.9 0.5 0.4 0.5',  # 28 to 44
        '0 0.5 0.5 0 0.5',
        '1 0.5 0.5 1.004 1.0',  # 0.08 pixels over: rounding, not worth a word
    )
    result, warnings = yolo.read()
    assert boxes(result['train'][0]) == [(1, [28, 5, 12, 10]), (2, [0, 0, 40, 20])]
    file = yolo.root / 'labels/train/a.txt'
    assert warnings == [
        f"1 boxes without area are left out: '{file}:2'",
        f'1 boxes passed the border and are clipped, the first in {file}:1',
    ]


@pytest.mark.parametrize(
    ('row', 'said'),
    [
        ('0 0.5 0.5 0.2', '4 numbers, where a box has 5'),
        ('0 0.5 0.5 0.2 0.2 0.9', '6 numbers, where a box has 5'),  # a confidence behind it
        ('0 0.1 0.1 0.2 0.2 0.3 0.3 0.4', '8 numbers'),
        ('0 0.5 x 0.2 0.2', "'0 0.5 x 0.2 0.2' are not all numbers"),
        ('0 0.5 nan 0.2 0.2', 'are not all numbers'),
        ('2 0.5 0.5 0.2 0.2', 'the class 2, and'),
        ('-1 0.5 0.5 0.2 0.2', 'the class -1, and'),
        ('0.5 0.5 0.5 0.2 0.2', 'the class 0.5, and'),
        ('cat 0.5 0.5 0.2 0.2', 'are not all numbers'),
        ('0 20 10 10 10', '20 is not in 0 to 1'),
        ('0 0.5 0.5 -0.2 0.2', '-0.2 is not in 0 to 1'),
    ],
)
def test_a_bad_row_is_named_with_its_file(yolo, row, said):
    file = yolo.label('train/a', '0 0.5 0.5 0.2 0.2', '', row)
    with pytest.raises(InputError) as caught:
        yolo.read()
    assert str(caught.value).startswith(f'{file}:3: ')
    assert said in str(caught.value)
    assert '\n' not in str(caught.value)


def test_every_bad_row_has_a_line_of_its_own(yolo, capsys):
    first = yolo.label('train/a', '0 0.5', '1 0.5 0.5 0.2 0.2', '7 0.5 0.5 0.2 0.2')
    last = yolo.label('val/c', 'x')
    with pytest.raises(InputError, match='3 rows are bad'):
        yolo.read()
    lines = capsys.readouterr().out.splitlines()
    starts = [f'{first}:1: ', f'{first}:3: ', f'{last}:1: ']
    assert [line.startswith(s) for line, s in zip(lines, starts, strict=True)] == [True] * 3


def test_a_label_file_without_its_image_is_warned_of(yolo):
    lost = yolo.label('train/gone', '0 0.5 0.5 0.2 0.2')
    yolo.label('train/classes', 'cat')
    assert yolo.read()[1] == [f'1 label files have no image, the first {lost}']


def test_a_split_without_any_label_file_is_refused(yolo):
    (yolo.root / 'labels/val/c.txt').unlink()
    assert not has_labels(read_data_yaml(yolo.yaml), 'val')
    with pytest.raises(InputError, match='none of the 1 images of val has a label file'):
        yolo.read()


def test_an_image_that_is_none_is_named(yolo):
    (yolo.root / 'images/train/b.png').write_text('no image')
    with pytest.raises(InputError, match=r'b\.png: not a readable image'):
        yolo.read()


def test_labels_lie_in_the_last_images_folder_or_beside_the_images(tmp_path):
    for folder in ('images/x/labels/train', 'y/images'):
        (tmp_path / folder).mkdir(parents=True)
    image = tmp_path / 'images/x/images/train/a.b.jpg'
    assert label_file(image) == tmp_path / 'images/x/labels/train/a.b.txt'
    beside = tmp_path / 'images/z/a.jpg'  # no labels/ for that one
    assert label_file(beside) == tmp_path / 'images/z/a.txt'


def test_classes_may_be_given_in_another_order_and_must_all_be_known(yolo):
    content = yolo.read(classes=['dog', 'cow', 'cat'])[0]['train'][0]
    assert [c['name'] for c in content['categories']] == ['dog', 'cow', 'cat']
    assert [label for label, _ in boxes(content)] == [1, 3]
    with pytest.raises(InputError, match="names 'dog', which is none of 'cat'"):
        yolo.read(classes=['cat'])


# ---------------------------------------------------------------------------------------------
# data.yaml


def test_names_may_be_numbered_and_digits(yolo):
    yolo.yaml.write_text('train: images/train\nval: images/val\nnc: 2\nnames: {1: 7, 0: 3}\n')
    assert read_data_yaml(yolo.yaml).names == ('3', '7')


def test_paths_are_relative_to_path_or_to_the_file(yolo, tmp_path):
    elsewhere = tmp_path / 'lists/data.yaml'
    elsewhere.parent.mkdir()
    elsewhere.write_text('path: ../set\ntrain: images/train\nval: images/val\nnames: [a, b]\n')
    assert read_data_yaml(elsewhere).splits['train'] == (yolo.root / 'images/train',)
    # A path from another machine, and Roboflow's ../ too many.
    yolo.yaml.write_text(
        'path: /no/such/set\ntrain: ../images/train\nval: images/val\nnames: [a, b]\n'
    )
    assert read_data_yaml(yolo.yaml).splits['train'] == (yolo.root / 'images/train',)


def test_a_split_may_be_several_folders_or_a_list_of_images(yolo):
    (yolo.root / 'val.txt').write_text('./images/val/c.png\n\n')
    yolo.yaml.write_text('train: [images/train, images/val]\nval: val.txt\nnames: [a, b]\n')
    result, warnings = yolo.read()
    content, folder = result['train']
    assert folder == yolo.root / 'images'
    assert [i['file_name'] for i in content['images']] == [
        'train/a.png',
        'train/b.png',
        'val/c.png',
    ]
    assert [i['file_name'] for i in result['val'][0]['images']] == ['c.png']
    assert warnings == []
    (yolo.root / 'val.txt').write_text('images/val/c.png\nimages/val/no.png\n')
    with pytest.raises(MissingFileError, match=r'val\.txt:2: no image at .*no\.png'):
        yolo.read()


def test_a_test_split_that_is_not_there_is_left_out_and_another_is_an_error(yolo):
    text = yolo.yaml.read_text()
    yolo.yaml.write_text(text + 'test: images/test\n')
    data = read_data_yaml(yolo.yaml)
    assert list(data.splits) == ['train', 'val']
    assert data.notes == (f'test is left out: {yolo.root / "images/test"} is not there',)
    yolo.yaml.write_text(text.replace('images/val', 'images/wal'))
    with pytest.raises(MissingFileError, match="val names 'images/wal'"):
        read_data_yaml(yolo.yaml)


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('names: [cat, dog', 'no YAML'),
        ('- cat', 'no YAML of the form KEY: VALUE'),
        ('train: images/train', 'has no list of names'),
        ('names: {0: cat, 2: dog}', 'must be the numbers from 0 to 1'),
        ('names: [yes, no]', 'names has True, which is no text'),
        ('names: [cat, cat]', 'more than once'),
        ('names: [cat, dog]\nnc: 3', 'nc is 3, and there are 2 names'),
        ('names: [cat, dog]\ntrain: 5', 'train is 5; it must be a path'),
        ('names: [cat]\nkpt_shape: [17, 3]', 'key points'),
    ],
)
def test_what_is_wrong_in_a_data_yaml_is_named(yolo, text, said):
    yolo.yaml.write_text(text)
    with pytest.raises(InputError) as caught:
        read_data_yaml(yolo.yaml)
    assert str(caught.value).startswith(f'{yolo.yaml}: ')
    assert said in str(caught.value)
    assert '\n' not in str(caught.value)


def test_a_split_without_images_is_named(tmp_path):
    data = YoloData(tmp_path / 'classes.txt', ('cat',), {'train': (tmp_path,)})
    with pytest.raises(InputError, match=r'classes\.txt: train has no image in'):
        read_yolo(data, ['train'])
