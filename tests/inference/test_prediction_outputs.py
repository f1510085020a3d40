"""Names, files and tables that a prediction leaves behind."""

import json
import os
import resource
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmengine.structures import InstanceData
from PIL import Image
from pycocotools import mask as masks_of_coco
from pycocotools.coco import COCO

from tresnet_det.errors import InputError, MissingFileError
from tresnet_det.inference.inputs import InputImage, Source
from tresnet_det.inference.output_files import JsonList, VideoWriter, safe_name
from tresnet_det.inference.outputs import CocoIds, PredictionWriter
from tresnet_det.models import ClsDataSample

NAMES = ('cat', 'dog', 'cow')
PIXELS = np.zeros((40, 60, 3), np.uint8)


class Sample:
    def __init__(self, *objects, masks=None):
        labels, scores, boxes = zip(*objects, strict=True) if objects else ((), (), ())
        self.pred_instances = InstanceData(
            labels=torch.tensor(labels, dtype=torch.long),
            scores=torch.tensor(scores, dtype=torch.float64),
            bboxes=torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4),
        )
        if masks is not None:
            self.pred_instances.masks = masks


def scored(*scores):
    sample = ClsDataSample()
    sample.pred_score = torch.tensor(scores)
    return sample


# Scores that float32 holds exactly.
CAT, DOG = (0, 0.875, (1, 2, 11, 22)), (1, 0.25, (0, 0, 5, 5))


def annotate(path, images, categories):
    content = dict(
        images=[dict(id=number, file_name=name) for name, number in images.items()],
        categories=[dict(id=number, name=name) for name, number in categories.items()],
        annotations=[],
    )
    path.write_text(json.dumps(content))
    return str(path)


def test_boxes_become_cocos_results_with_all_scores_and_the_drawing_has_the_sure_ones(tmp_path):
    with PredictionWriter(tmp_path / 'out', 'detection', NAMES, 0.3) as writer:
        writer.add(InputImage('x/a.png', PIXELS), Sample(DOG, CAT))
        writer.add(InputImage('y/a.png', PIXELS), Sample())
    written = json.loads((tmp_path / 'out' / 'results.bbox.json').read_text())
    assert written == [
        dict(image_id=1, category_id=1, bbox=[1, 2, 10, 20], score=0.875),
        dict(image_id=1, category_id=2, bbox=[0, 0, 5, 5], score=0.25),
    ]
    images = json.loads((tmp_path / 'out' / 'images.json').read_text())
    assert images['images'] == [
        dict(id=1, file_name='x/a.png', width=60, height=40, drawn='images/a.png'),
        dict(id=2, file_name='y/a.png', width=60, height=40, drawn='images/a_2.png'),
    ]
    assert [c['name'] for c in images['categories']] == list(NAMES)
    assert writer.table().splitlines()[2:] == ['x/a.png  cat x1', 'y/a.png  nothing above 0.3']
    drawn = sorted(path.name for path in (tmp_path / 'out' / 'images').iterdir())
    assert drawn == ['a.png', 'a_2.png']
    loaded = COCO(tmp_path / 'out' / 'images.json').loadRes(str(writer.results))
    assert [a['area'] for a in loaded.loadAnns(loaded.getAnnIds())] == [200, 25]
    assert writer.masks is None
    assert not (tmp_path / 'out' / 'results.segm.json').exists()


def encode(rows, columns):
    """The code of a rectangle in an image of 40x60, and its pixels."""
    mask = np.zeros((40, 60), np.uint8, order='F')
    mask[rows, columns] = 1
    code = masks_of_coco.encode(mask)
    return dict(code, counts=code['counts'].decode()), mask


def test_masks_have_a_file_of_their_own_row_for_row_with_the_boxes(tmp_path):
    left, left_pixels = encode(slice(2, 22), slice(0, 9))
    right, right_pixels = encode(slice(0, 5), slice(50, 60))
    file = annotate(tmp_path / 'a.json', {'a.png': 7, 'b.png': 8}, {'cat': 2, 'dog': 5, 'cow': 9})
    ids = CocoIds(file, NAMES)
    with PredictionWriter(tmp_path / 'out', 'detection', NAMES, 0.3, ids=ids) as writer:
        writer.add(InputImage('b.png', PIXELS), Sample(masks=[]))
        writer.add(InputImage('a.png', PIXELS), Sample(DOG, CAT, masks=[right, left]))
    assert writer.masks == tmp_path / 'out' / 'results.segm.json'
    rows = json.loads(writer.masks.read_text())
    assert rows == [
        dict(image_id=7, category_id=2, segmentation=left, score=0.875),
        dict(image_id=7, category_id=5, segmentation=right, score=0.25),
    ]
    for row, pixels in zip(rows, (left_pixels, right_pixels), strict=True):
        assert (masks_of_coco.decode(row['segmentation']) == pixels).all()
    assert [b['score'] for b in json.loads(writer.results.read_text())] == [0.875, 0.25]
    loaded = COCO(tmp_path / 'out' / 'images.json').loadRes(str(writer.masks))
    # By the masks' pixels, which are fewer than the boxes'.
    assert [a['area'] for a in loaded.loadAnns(loaded.getAnnIds())] == [180, 50]
    assert writer.table().splitlines()[2:] == ['b.png  nothing above 0.3', 'a.png  cat x1']
    drawn = np.asarray(Image.open(tmp_path / 'out' / 'images' / 'a.png'))
    assert drawn[70, 35].any()  # in the middle of the cat, in an image seven times as large
    assert not drawn[10:30, 370:400].any()  # the dog's score is below the threshold


def test_where_boxes_are_zeros_the_masks_bounds_are_the_boxes(tmp_path):
    nowhere = (0, 0, 0, 0)
    objects = (0, 0.9, nowhere), (1, 0.8, nowhere), (2, 0.7, (1, 2, 3, 4))
    some, none = encode(slice(3, 20), slice(5, 25))[0], encode(slice(0), slice(0))[0]
    with PredictionWriter(tmp_path, 'detection', NAMES, 0.3) as writer:
        writer.add(InputImage('a.png', PIXELS), Sample(*objects, masks=[some, none, some]))
    boxes = [row['bbox'] for row in json.loads(writer.results.read_text())]
    assert boxes == [[5, 3, 20, 17], [0, 0, 0, 0], [1, 2, 2, 2]]


def test_ids_of_an_annotation_file_are_found_by_the_end_of_the_path(tmp_path):
    file = annotate(
        tmp_path / 'a.json', {'a.png': 7, 'x/a.png': 8}, {'cow': 90, 'dog': 5, 'cat': 2, 'ox': 1}
    )
    ids = CocoIds(file, NAMES)
    ids.check([Source('/data/y/a.png', 'image'), Source('data/x/a.png', 'image')])
    with PredictionWriter(tmp_path / 'out', 'detection', NAMES, 0.3, 3, False, ids) as writer:
        writer.add(InputImage('/data/y/a.png', PIXELS), Sample(CAT))
        writer.add(InputImage('data/x/a.png', PIXELS), Sample(DOG))
    found = json.loads(writer.results.read_text())
    assert [(f['image_id'], f['category_id']) for f in found] == [(7, 2), (8, 5)]
    assert not (tmp_path / 'out' / 'images').exists()


def test_an_annotation_file_that_does_not_fit_is_named_before_predicting(tmp_path):
    with pytest.raises(MissingFileError, match='none.json'):
        CocoIds(str(tmp_path / 'none.json'), NAMES)
    broken = tmp_path / 'broken.json'
    for text in ('{', '[]', '{"images": []}'):
        broken.write_text(text)
        with pytest.raises(InputError, match='not in COCO format'):
            CocoIds(str(broken), NAMES)
    with pytest.raises(InputError, match="no category 'dog'"):
        CocoIds(annotate(broken, {}, {'cat': 1}), NAMES)
    ids = CocoIds(annotate(broken, {'a.png': 1}, dict.fromkeys(NAMES, 1)), NAMES)
    with pytest.raises(InputError, match='does not name the image b.png'):
        ids.check([Source('b.png', 'image')])
    with pytest.raises(InputError, match='two images are its image 1'):
        ids.check([Source('x/a.png', 'image'), Source('y/a.png', 'image')])


def test_of_several_labels_those_above_the_threshold_are(tmp_path):
    with PredictionWriter(tmp_path, 'multilabel', NAMES, 0.5) as writer:
        writer.add(InputImage('a.png', PIXELS), scored(0.75, 0.5, 0.625))
        writer.add(InputImage('b.png', PIXELS), scored(0.25, 0.5, 0.125))
    assert (tmp_path / 'results.csv').read_text().splitlines()[1:] == [
        'a.png,cat,0.75',
        'a.png,cow,0.625',
        'b.png,,',
    ]
    assert [len(e['predictions']) for e in json.loads(writer.results.read_text())] == [2, 0]
    assert writer.table().splitlines()[-1] == 'b.png  nothing above 0.5'


def test_the_table_is_shortened_for_many_images(tmp_path):
    with PredictionWriter(tmp_path, 'detection', NAMES, 0.3, draw=False) as writer:
        for number in range(25):
            writer.add(InputImage(f'{number}.png', PIXELS), Sample())
    lines = writer.table().splitlines()
    assert len(lines) == 23
    assert lines[-1] == '... and 5 more'


@pytest.mark.parametrize(
    ('name', 'expected'),
    [
        ('folder/a.JPG', 'a.jpg'),
        ('../../etc/passwd', 'passwd.png'),
        ('..', 'image.png'),
        ('C:\\..\\x y.tif', 'x_y.png'),
        ('https://host/p/photo.jpeg?size=../../x', 'photo.jpg'),
        ('https://host/', 'image.png'),
        ('a\nb\0c.png', 'a_b_c.png'),
        (f'{"long" * 100}.png', f'{"long" * 20}.png'),
    ],
)
def test_a_drawn_images_name_stays_in_its_folder(name, expected):
    assert safe_name(name, set()) == expected


PARTS = (
    '..', '.', '/', '\\', '~', 'C:', '\0', '\n', '%2e%2e', '?', '#', '://', 'con', 'a.jpg',
    '𝒜' * 90, '中' * 90, '\udcff', '\u202e', ' ', '-', '.png',
)  # fmt: skip
names = st.one_of(st.text(), st.lists(st.sampled_from(PARTS), max_size=6).map(''.join))


@given(st.lists(names, min_size=1, max_size=5), st.sampled_from([None, '.mp4']))
def test_fuzz_names_of_results_are_one_part_of_their_own(given_names, suffix):
    taken, found = set(), []
    for name in given_names:
        found.append(safe_name(name, taken, suffix))
        part = found[-1]
        assert Path('out', part).resolve() == Path('out').resolve() / part
        assert len(Path(part).parts) == 1
        assert part not in ('.', '..')
        assert not part.startswith('.')
        assert len(os.fsencode(part)) <= 255
        assert not set(part) & set('/\\:\0\n\r')
        assert part.endswith(suffix or ('.jpg', '.png'))
    assert len({part.lower() for part in found}) == len(found)


@pytest.mark.parametrize('full', [False, True])
def test_a_list_takes_its_name_when_it_is_whole(tmp_path, full):
    path = tmp_path / 'list.json'
    path.write_text('[]')

    def write():
        with JsonList(path) as entries:
            entries.write(dict(image=1))
            assert path.read_text() == '[]'  # what a kill here would leave
            if full:
                entries._file.close()  # a full disk: nothing more can be written
            raise KeyboardInterrupt

    with pytest.raises(ValueError if full else KeyboardInterrupt):
        write()
    assert json.loads(path.read_text()) == ([] if full else [dict(image=1)])
    assert list(tmp_path.iterdir()) == [path]


def test_a_video_takes_its_name_when_it_is_whole_and_none_where_the_disk_is_full(tmp_path):
    path = tmp_path / 'clip.mp4'
    path.write_bytes(b'old')
    frames = np.random.default_rng(0).integers(256, size=(9, 96, 96, 3), dtype=np.uint8)

    def write():
        writer = VideoWriter(path, 10, frames[0])
        for frame in frames:
            writer.write(frame)
        assert path.read_bytes() == b'old'
        writer.close()

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16384, hard))
    try:
        with pytest.raises(InputError, match='clip.mp4: cannot be written whole'):
            write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert (path.read_bytes(), os.listdir(tmp_path)) == (b'old', ['clip.mp4'])
    write()
    assert cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_COUNT) == len(frames)
    assert os.listdir(tmp_path) == ['clip.mp4']
