"""Any COCO JSON: the boxes that are in it come out, or one line says what is wrong with it."""

import contextlib
import io
import json
import re
from codecs import BOM_UTF8
from collections import Counter

import fuzz_mutations as fuzz
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from mmdet.datasets import CocoDataset
from small_coco import BOXES, small_coco

from tresnet_det.readers.config import check_detection

CLASSES = ('cat', 'dog')
CONTENT = dict(info={}, **small_coco([*BOXES[:2], (9, 3, [1.5, 2.5, 8, 8], 1)]))


@st.composite
def files(draw):
    """Draw the bytes of an instances file, with faults in its values or in its bytes."""
    if draw(st.booleans()):
        return json.dumps(draw(fuzz.broken_trees(CONTENT)), indent=1).encode()
    return draw(fuzz.broken_bytes(json.dumps(CONTENT, indent=1).encode()))


def lay_out(root, data, how):
    fuzz.place(root / 'annotations/instances_train.json', data, how)
    (root / 'train').mkdir()
    for name in ('a.png', 'b.png'):
        (root / 'train' / name).write_bytes(fuzz.IMAGE)
    return root / 'annotations/instances_train.json'


def reference(data):
    """Return (file, class, box, crowd) of every annotation, as they stand in the file."""
    content = json.loads(data.decode())
    files = {image['id']: image['file_name'] for image in content['images']}
    names = {category['id']: category['name'] for category in content['categories']}
    return [
        (
            files[a['image_id']],
            names[a['category_id']],
            [*map(float, a['bbox'])],
            bool(a.get('iscrowd')),
        )
        for a in content['annotations']
    ]


def config(file, classes=CLASSES):
    return dict(
        type='CocoDataset',
        ann_file=str(file),
        data_prefix=dict(img=str(file.parent.parent / 'train')),
        metainfo=dict(classes=classes),
    )


def count_learnt(content):
    """Return how many boxes MMDetection learns: no crowds, in the image, a pixel at least."""
    sizes = {image['id']: (image['width'], image['height']) for image in content['images']}
    total = 0
    for a in content['annotations']:
        start, extent = np.array(a['bbox'], float).reshape(2, 2)
        inside = np.minimum(start + extent, sizes[a['image_id']]) - np.maximum(start, 0)
        ignored = a.get('iscrowd') or a.get('ignore')
        total += not ignored and a['area'] > 0 and min(extent) >= 1 and min(inside) > 0
    return total


def count_left_out(warnings):
    """Return how many boxes the warnings say are skipped."""
    pattern = r'boxes (?:without area|wholly outside)[^:]*: (\d+) of'
    return sum(int(found[1]) for w in warnings if (found := re.search(pattern, w)))


@given(files(), st.sampled_from(fuzz.PLACE_FAULTS), st.booleans())
def test_fuzz_what_passes_the_check_is_what_mmdetection_reads(data, how, test_mode):
    with fuzz.folder() as root:
        file = lay_out(root, data, how)
        warnings = fuzz.attempt(
            lambda: check_detection(config(file), 'val' if test_mode else 'train', 2),
            file,
            root / 'train',
        )
        if warnings is None:
            return
        assert all(len(w.splitlines()) == 1 for w in warnings)
        with contextlib.redirect_stdout(io.StringIO()):
            read = CocoDataset(
                ann_file=str(file),
                data_prefix=dict(img=str(root / 'train')),
                metainfo=dict(classes=CLASSES),
                pipeline=[],
                test_mode=test_mode,
            )
        expected = [row for row in reference(data) if row[1] in CLASSES]
        found = Counter()
        for i in range(len(read)):
            info = read.get_data_info(i)
            for instance in info['instances']:
                x0, y0, x1, y1 = instance['bbox']
                box = np.array([x0, y0, x1 - x0, y1 - y0], float).round(6)
                name = info['img_path'].rpartition('train/')[2]
                found[
                    name, CLASSES[instance['bbox_label']], tuple(box), bool(instance['ignore_flag'])
                ] += 1
        wanted = Counter(
            (f, c, tuple(np.array(b, float).round(6)), crowd) for f, c, b, crowd in expected
        )
        assert found <= wanted
        assert (wanted - found).total() == min(count_left_out(warnings), len(expected))


@given(files(), st.sampled_from(fuzz.PLACE_FAULTS))
def test_fuzz_a_folder_of_ones_own(data, how):
    with fuzz.folder() as root, fuzz.folder() as out:
        file = lay_out(root, data, how)

        result = fuzz.attempt(lambda: fuzz.prepare(root, out), file, root)
        if result is None:
            return
        parts = [json.loads(split.ann_file.read_bytes()) for split in result.splits.values()]
        counts = [split.counts.num_objects for split in result.splits.values()]
        assert [*map(count_learnt, parts)] == counts
        found = Counter(repr(row) for part in parts for row in reference(json.dumps(part).encode()))
        assert found == Counter(map(repr, reference(data.removeprefix(BOM_UTF8))))
        named = {image['file_name'] for part in parts for image in part['images']}
        assert sum(len(part['images']) for part in parts) >= len(named) > 0


@given(files(), st.sampled_from(fuzz.PLACE_FAULTS))
def test_fuzz_the_check_of_data_finds_what_would_stop_a_training(data, how):
    with fuzz.folder() as root:
        file = lay_out(root, data, how)
        report = fuzz.inspect(root, file)
        if report is None:
            return
        found = json.dumps(report.as_dict()['findings'])
        classes = next((part.split.classes for part in report.parts), ()) or CLASSES
        cfg = config(file, classes)
        trains = fuzz.attempt(lambda: check_detection(cfg, 'train'), file, root / 'train')
        assert trains is not None or report.failed, found
