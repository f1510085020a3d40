"""YOLO label files as COCO content: boxes, sizes, names, and each fault with its file and row."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tresnet_det.errors import InputError, MissingFileError
from tresnet_det.readers.data import layout_sources, read_data
from tresnet_det.readers.findings import Findings
from tresnet_det.readers.layouts import find_layout
from tresnet_det.readers.yolo import label_files

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

    def read(self, classes=None):
        """Return the splits by name, and what a training warns of."""
        layout, findings = find_layout(self.yaml, 'detection'), Findings(strict=True)
        sources = layout_sources(layout, list(layout.splits), 'detection')
        if classes:
            sources = [replace(s, classes=classes, known_by='the checkpoint') for s in sources]
        splits = {split.name: split for split in read_data(sources, findings)}
        return splits, [
            f.message for f in findings if f.level == 'warning' and f.code != 'one-image'
        ]


@pytest.fixture
def yolo(tmp_path):
    return TinyYolo(tmp_path / 'set')


def boxes(split):
    return list(zip(split.labels.tolist(), split.boxes.xywh.tolist(), strict=True))


def test_rows_are_centres_and_sides_in_fractions_of_the_image(yolo):
    split = yolo.read()[0]['train']
    # 0.5 * 40 - 0.25 * 40 / 2 = 15, 0.5 * 20 - 0.5 * 20 / 2 = 5.
    assert boxes(split) == [(1, [15, 5, 10, 10]), (0, [0, 0, 10, 10])]
    assert split.boxes.areas.tolist() == [100, 100]
    assert (split.classes, split.files) == (('cat', 'dog'), ['a.png', 'b.png'])
    assert split.folder == yolo.root / 'images/train'
    assert split.sizes.tolist() == [[WIDTH, HEIGHT]] * 2
    assert split.annotated.tolist() == [True, False]  # b has no label file


def test_six_decimals_give_whole_pixels_back(yolo):
    save(yolo.root / 'images/train/a.png', (640, 480))
    x, y, w, h = 13, 7, 211, 101
    row = [0, (x + w / 2) / 640, (y + h / 2) / 480, w / 640, h / 480]
    yolo.label('train/a', ' '.join(f'{value:.6f}' for value in row))
    assert boxes(yolo.read()[0]['train']) == [(0, [x, y, w, h])]


def test_a_polygon_becomes_the_box_around_it(yolo):
    yolo.label('train/a', '1 0.25 0.5 0.5 0.1 0.75 0.5', '0 0.1 0.1 0.2 0.1 0.2 0.3 0.1 0.3')
    (_, first), (_, second) = boxes(yolo.read()[0]['train'])
    np.testing.assert_allclose(first, [10, 2, 20, 8])
    np.testing.assert_allclose(second, [4, 2, 4, 4])


def test_an_image_that_exif_turns_is_measured_as_it_is_shown(yolo):
    import cv2

    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    (yolo.root / 'images/train/a.png').unlink()
    save(yolo.root / 'images/train/a.jpg', exif=exif)
    shown = cv2.imread(str(yolo.root / 'images/train/a.jpg')).shape  # as training loads it
    split = yolo.read()[0]['train']
    assert split.sizes[0].tolist() == [*shown[1::-1]]
    # 0.25 of the 20 pixels that are now the width, 0.5 of the 40.
    assert boxes(split)[0] == (1, [7.5, 10, 5, 20])


def test_boxes_are_clipped_and_those_without_area_are_left_out(yolo):
    yolo.label(
        'train/a',
        '0 0.9 0.5 0.4 0.5',  # 28 to 44
        '0 0.5 0.5 0 0.5',
        '1 0.5 0.5 1.004 1.0',  # 0.08 pixels over: rounding, not worth a word
    )
    result, warnings = yolo.read()
    assert boxes(result['train']) == [(0, [28, 5, 12, 10]), (1, [0, 0, 40, 20])]
    lost, flat, partly = warnings
    assert 'images without a label file' in lost
    assert 'without area, or a side below a pixel: 1 of 3, first labels/train/a.txt:2' in flat
    assert 'boxes partly outside their image: 1 of 3, first labels/train/a.txt:1' in partly


def test_labels_lie_in_the_last_images_folder_or_next_to_the_images(tmp_path):
    for folder in ('images/x/labels/train', 'y/images'):
        (tmp_path / folder).mkdir(parents=True)
    image = tmp_path / 'images/x/images/train/a.b.jpg'
    assert label_files([image]) == [tmp_path / 'images/x/labels/train/a.b.txt']
    beside = tmp_path / 'images/z/a.jpg'  # no labels/ for that one
    assert label_files([beside]) == [tmp_path / 'images/z/a.txt']


def test_a_label_file_of_another_folder_is_no_images(yolo):
    for camera in ('cam1', 'cam2'):
        save(yolo.root / f'images/train/{camera}/0001.png')
    save(yolo.root / 'images/train/cam2/0002.png')
    yolo.label('train/cam1/0003', '0 0.5 0.5 1 1')
    yolo.label('train/cam2/0001', '0 0.5 0.5 1 1').rename(yolo.root / 'labels/train/cam2/0001.TXT')
    yolo.label('train/cam2/0004', '0 0.5 0.5 1 1')
    split = yolo.read()[0]['train']
    names = ['a.png', 'b.png', 'cam1/0001.png', 'cam2/0001.png', 'cam2/0002.png']
    assert split.files == names
    assert [names[row] for row in split.rows] == ['a.png', 'a.png', 'cam2/0001.png']


def test_classes_may_be_given_in_another_order_and_must_all_be_known(yolo):
    split = yolo.read(classes=('dog', 'cow', 'cat'))[0]['train']
    assert split.classes == ('dog', 'cow', 'cat')
    assert [label for label, _ in boxes(split)] == [0, 2]
    with pytest.raises(InputError, match="classes 'dog', which the checkpoint does not know"):
        yolo.read(classes=('cat',))


# ---------------------------------------------------------------------------------------------
# data.yaml


def test_names_may_be_numbered_and_digits(yolo):
    yolo.yaml.write_text('train: images/train\nval: images/val\nnc: 2\nnames: {1: 7, 0: 3}\n')
    assert find_layout(yolo.yaml, 'detection').names == ('3', '7')


def test_paths_are_relative_to_path_or_to_the_file(yolo, tmp_path):
    elsewhere = tmp_path / 'lists/data.yaml'
    elsewhere.parent.mkdir()
    elsewhere.write_text('path: ../set\ntrain: images/train\nval: images/val\nnames: [a, b]\n')
    assert find_layout(elsewhere, 'detection').places['train'] == (yolo.root / 'images/train',)
    # A path from another machine, and Roboflow's ../ too many.
    yolo.yaml.write_text(
        'path: /no/such/set\ntrain: ../images/train\nval: images/val\nnames: [a, b]\n'
    )
    assert find_layout(yolo.yaml, 'detection').places['train'] == (yolo.root / 'images/train',)


WRITTEN_ELSEWHERE = {  # path, train and val of a data.yaml
    'Windows': ('C:\\Users\\me\\set', 'images\\train', 'images\\val'),
    'Windows, escaped': ('C:\\\\Users\\\\me', 'images\\\\train', 'images\\\\val\\\\'),
    'Windows, whole paths': ('.', 'D:\\set\\images\\train', 'D:\\set\\images\\val'),
    'Windows, one too many': ('.', '..\\images\\train', '..\\images\\val'),
    'a folder of this machine': ('.\\images', 'train', 'val\\'),
    'slashes at the end': ('./', 'images/train/', 'images//val//'),
}


@pytest.mark.parametrize('case', WRITTEN_ELSEWHERE)
def test_paths_may_be_written_on_windows(case, yolo):
    path, train, val = WRITTEN_ELSEWHERE[case]
    yolo.yaml.write_text(f'path: {path}\ntrain: {train}\nval: {val}\nnames: [cat, dog]\n')
    splits = find_layout(yolo.yaml, 'detection').places
    assert splits == {r: (yolo.root / f'images/{r}',) for r in ('train', 'val')}


def test_a_split_may_be_several_folders_or_a_list_of_images(yolo):
    (yolo.root / 'val.txt').write_text('./images/val/c.png\n\n')
    yolo.yaml.write_text('train: [images/train, images/val]\nval: val.txt\nnames: [a, b]\n')
    result, warnings = yolo.read()
    assert result['train'].folder == yolo.root / 'images'
    assert result['train'].files == ['train/a.png', 'train/b.png', 'val/c.png']
    assert result['val'].files == ['c.png']
    assert [line for line in warnings if 'without a label file' not in line] == []
    (yolo.root / 'val.txt').write_text('images/val/c.png\nimages/val/no.png\n')
    with pytest.raises(MissingFileError, match=r'not in the folder: 1 of 2, first no\.png'):
        yolo.read()


def test_a_test_split_that_is_not_there_is_left_out_and_another_is_an_error(yolo):
    text = yolo.yaml.read_text()
    yolo.yaml.write_text(text + 'test: images/test\n')
    data = find_layout(yolo.yaml, 'detection')
    assert list(data.splits) == ['train', 'val']
    assert data.notes == [f'test is skipped: {yolo.root / "images/test"} is not found']
    yolo.yaml.write_text(text.replace('images/val', 'images/wal'))
    with pytest.raises(MissingFileError, match="val names 'images/wal'"):
        find_layout(yolo.yaml, 'detection')


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
        ('classes = 3\ntrain = images/train', "classes is '3', and there are 2 names"),
        ('names: [cat, dog]\ntrain: 5', 'train is 5; it must be a path'),
        ('names: [cat, dog]\ntrain: /', "train is '/': name a folder of images"),
        ('names: [cat]\nkpt_shape: [17, 3]', 'key points'),
    ],
)
def test_what_is_wrong_in_a_data_yaml_is_named(yolo, text, said):
    if text.startswith('classes ='):
        yolo.yaml = yolo.yaml.rename(yolo.root / 'obj.data')
        (yolo.root / 'obj.names').write_text('cat\ndog\n')
    yolo.yaml.write_text(text)
    with pytest.raises(InputError) as caught:
        find_layout(yolo.root if yolo.yaml.suffix == '.data' else yolo.yaml, 'detection')
    assert str(caught.value).startswith(f'{yolo.yaml}: ')
    assert said in str(caught.value)
    assert '\n' not in str(caught.value)
