"""Pascal VOC as COCO: boxes, sizes, classes and ids, and what is refused or skipped."""

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from tresnet_det.cli.voc_to_coco import voc_to_coco
from tresnet_det.errors import InputError, MissingFileError

OBJECT = (
    '<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmin>{box[0]}</xmin>'
    '<ymin>{box[1]}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>'
)


class TinyVoc:
    """Three images of 40 x 30 in two splits."""

    def __init__(self, root):
        self.root = root
        for part in ('Annotations', 'ImageSets/Main', 'JPEGImages'):
            (root / part).mkdir(parents=True)
        self.add('a', [('dog', (1, 1, 40, 30)), ('cat', (5, 6, 10, 12))])
        self.add('b', [('dog', (2, 3, 4, 5), 1)])
        self.add('c', [])
        self.split('train', 'a', 'c')
        self.split('val', 'b')

    def add(self, name, objects, size=(40, 30), text=None):
        body = ''.join(
            OBJECT.format(name=o[0], box=o[1], difficult=o[2] if len(o) > 2 else 0) for o in objects
        )
        text = text or (
            f'<annotation><filename>stale.jpg</filename><size><width>{size[0]}</width>'
            f'<height>{size[1]}</height><depth>3</depth></size>{body}</annotation>'
        )
        (self.root / f'Annotations/{name}.xml').write_text(text)
        image = Image.fromarray(np.zeros((30, 40, 3), np.uint8))
        image.save(self.root / f'JPEGImages/{name}.jpg')

    def split(self, split, *names):
        (self.root / f'ImageSets/Main/{split}.txt').write_text('\n'.join(names) + '\n')


@pytest.fixture
def voc(tmp_path):
    return TinyVoc(tmp_path / 'voc')


@pytest.fixture
def out(tmp_path):
    return tmp_path / 'out'


def test_boxes_count_from_zero_and_include_the_last_pixel(voc, out):
    voc_to_coco(voc.root, out)
    coco = COCO(str(out / 'annotations/instances_train.json'))
    assert [a['bbox'] for a in coco.anns.values()] == [[0, 0, 40, 30], [4, 5, 6, 7]]
    assert [a['area'] for a in coco.anns.values()] == [1200, 42]
    assert [c['name'] for c in coco.cats.values()] == ['cat', 'dog']  # alphabetical
    assert [a['category_id'] for a in coco.anns.values()] == [2, 1]
    assert [i['file_name'] for i in coco.imgs.values()] == ['a.jpg', 'c.jpg']


def test_difficult_objects_are_passed_over_as_crowds_are(voc, out):
    voc_to_coco(voc.root, out)
    (annotation,) = COCO(str(out / 'annotations/instances_val.json')).anns.values()
    assert annotation['iscrowd'] == 1


@pytest.mark.parametrize(
    ('text', 'passed_over'),
    [
        *[(text, 1) for text in ('1', 'true', 'True', ' 1 ', 'yes', '1.0')],
        *[(text, 0) for text in ('0', 'false', 'False', 'Unspecified', '', 'no', '0.0')],
    ],
)
def test_what_is_difficult_may_be_written_in_words(text, passed_over, voc, out):
    voc.add('b', [('dog', (2, 3, 4, 5), text), ('cat', (1, 1, 9, 9))])
    voc_to_coco(voc.root, out)
    first, _ = COCO(str(out / 'annotations/instances_val.json')).anns.values()
    assert first['iscrowd'] == passed_over


def test_classes_keep_a_given_order(voc, out):
    result = voc_to_coco(voc.root, out, classes=['dog', 'cat', 'horse'])
    categories = json.loads((out / 'annotations/instances_val.json').read_text())['categories']
    assert [c['name'] for c in categories] == result['classes'] == ['dog', 'cat', 'horse']
    assert result['splits']['train']['boxes'] == {'dog': 1, 'cat': 1, 'horse': 0}


def test_lists_of_one_class_are_no_splits(voc, out):
    (voc.root / 'ImageSets/Main/dog_train.txt').write_text('a  1\nc -1\n')
    assert list(voc_to_coco(voc.root, out)['splits']) == ['train', 'val']
    with pytest.raises(InputError, match=r"dog_train\.txt: .*'a 1', no name of an image"):
        voc_to_coco(voc.root, out, ['dog_train'])


def test_an_image_has_one_id_in_all_splits(voc, out):
    voc.split('trainval', 'a', 'b', 'c')
    voc_to_coco(voc.root, out)
    ids = {}
    for split in ('train', 'val', 'trainval'):
        for image in COCO(str(out / f'annotations/instances_{split}.json')).imgs.values():
            ids.setdefault(image['file_name'], set()).add(image['id'])
    assert all(len(found) == 1 for found in ids.values())
    assert len(ids) == 3


def test_boxes_without_area_are_left_out_and_named_in_one_line(voc, out):
    boxes = [(9, 9, 9, 20), (9, 9, 20, 9), (20, 9, 10, 20), (50, 9, 60, 20), (3, 3, 8, 8)]
    voc.add('a', [('dog', box) for box in boxes])
    result = voc_to_coco(voc.root, out, ['train'])
    assert result['splits']['train']['boxes'] == {'dog': 1}
    flat, outside = result['warnings']
    assert 'boxes without area, or a side below a pixel: 3 of 5, first a.xml object 1' in flat
    assert (
        'wholly outside their image: 1 of 5, first a.xml object 4 (dog): [49, 8, 11, 12]' in outside
    )


def test_boxes_beyond_the_border_are_clipped_and_counted(voc, out):
    voc.add('a', [('dog', (0, 0, 10, 10)), ('dog', (30.5, 5, 44, 31))])
    result = voc_to_coco(voc.root, out, ['train'])
    coco = COCO(str(result['splits']['train']['file']))
    assert [a['bbox'] for a in coco.anns.values()] == [[0, 0, 10, 10], [29.5, 4, 10.5, 26]]
    (line,) = result['warnings']
    assert 'boxes partly outside their image: 2 of 2, first a.xml object 1' in line


@pytest.mark.parametrize('size', [(0, 0), ('', ''), ('0', '0')])
def test_a_size_of_nothing_is_no_size(size, voc, out):
    voc.add('a', [('dog', (1, 1, 40, 30))], size=size)
    voc_to_coco(voc.root, out)
    image = COCO(str(out / 'annotations/instances_train.json')).imgs[1]
    assert (image['width'], image['height']) == (40, 30)


@pytest.mark.parametrize('ending', ['jpg', 'tiff'])
def test_an_image_that_a_camera_turned_counts_as_it_is_shown(voc, out, ending):
    voc.add('a', [('dog', (1, 1, 30, 40))], size=(30, 40))
    (voc.root / 'JPEGImages/a.jpg').unlink()
    exif = Image.Exif()
    exif[0x0112] = 6
    file = voc.root / f'JPEGImages/a.{ending}'
    Image.new('RGB', (40, 30)).save(file, exif=exif)
    voc_to_coco(voc.root, out)
    image = COCO(str(out / 'annotations/instances_train.json')).imgs[1]
    assert (image['width'], image['height']) == (30, 40)


def test_missing_parts_are_named(voc, out):
    (voc.root / 'JPEGImages/a.jpg').unlink()
    with pytest.raises(MissingFileError, match=r'not in the folder: 1 of 2, first a\.jpg'):
        voc_to_coco(voc.root, out)
    (voc.root / 'Annotations/a.xml').unlink()
    with pytest.raises(MissingFileError, match=r'XML file is not found: 1 of 2, first .*a\.xml'):
        voc_to_coco(voc.root, out)
    with pytest.raises(MissingFileError, match='test.txt: no such list .* there are: train, val'):
        voc_to_coco(voc.root, out, ['test'])
    with pytest.raises(MissingFileError, match='did you mean .*voc'):
        voc_to_coco(voc.root.parent, out)


def test_an_unknown_class_is_named_with_its_file(voc, out):
    with pytest.raises(
        InputError, match="has the classes 'cat', which --classes does not know; it knows 'dog'"
    ):
        voc_to_coco(voc.root, out, classes=['dog'])


def test_own_files_are_made_again_and_others_are_not_overwritten(voc, out):
    voc_to_coco(voc.root, out)
    voc.split('val', 'c')
    voc_to_coco(voc.root, out)
    target = out / 'annotations/instances_val.json'
    assert len(COCO(str(target)).anns) == 0
    assert sorted(p.name for p in target.parent.iterdir()) == [
        'instances_train.json', 'instances_val.json'
    ]  # fmt: skip
    target.write_text('{"info": {"description": "COCO 2017 Dataset"}}')
    with pytest.raises(InputError, match='instances_val.json: exists and was not made'):
        voc_to_coco(voc.root, out)
