"""Figures of detections against pycocotools, tidecv and two loops."""

import contextlib
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tresnet_det.errors import InputError
from tresnet_det.evaluation import measures
from tresnet_det.evaluation.bootstrap import find_intervals, mean_precision
from tresnet_det.evaluation.detections import read_results, read_truth
from tresnet_det.evaluation.matching import IOU_THRS, NONE, match
from tresnet_det.evaluation.report import TWELVE, summarize
from tresnet_det.evaluation.twelve import COCO_IOUS, find_rates


def make_files(folder, seed, images=30, classes=5):
    """Random ground truth and detections with all kinds of errors, ties of scores, and crowds."""
    rng = np.random.default_rng(seed)
    annotations, rows = [], []
    for image in range(images):
        for _ in range(rng.integers(0, 7)):
            box = [*rng.uniform(0, 150, 2), *rng.uniform(10, 60, 2)]
            label, crowd = int(rng.integers(classes - 1)), int(rng.random() < 0.1)
            x, y, w, h = box
            outline = [x, y, x + w, y, x + w, y + h, x, y + h]  # tidecv wants one
            annotations.append(dict(id=len(annotations) + 1, image_id=10 + 3 * image,
                                    segmentation=[outline],
                                    category_id=2 * label + 1, bbox=box, area=box[2] * box[3],
                                    iscrowd=crowd))  # fmt: skip
            for _ in range(rng.integers(0, 4)):
                shifted = np.array(box) + rng.normal(0, rng.choice([1, 6, 15]), 4)
                shifted[2:] = abs(shifted[2:]) + 1
                other = int(rng.integers(classes)) if rng.random() < 0.3 else label
                rows.append((10 + 3 * image, 2 * other + 1, shifted.tolist()))
        for _ in range(rng.integers(0, 3)):
            box = [*rng.uniform(0, 150, 2), *rng.uniform(10, 60, 2)]
            rows.append((10 + 3 * image, int(2 * rng.integers(classes) + 1), box))
    order = rng.permutation(len(rows))
    results = [
        dict(image_id=rows[n][0], category_id=rows[n][1], bbox=rows[n][2],
             score=round(float(rng.random()), 2))
        for n in order
    ]  # fmt: skip
    truth = dict(
        images=[dict(id=10 + 3 * n, file_name=f'{n}.png', width=220, height=220)
                for n in rng.permutation(images).tolist()],
        categories=[dict(id=2 * n + 1, name=f'class {n}') for n in range(classes)],
        annotations=annotations,
    )  # fmt: skip
    (folder / 'truth.json').write_text(json.dumps(truth))
    (folder / 'results.json').write_text(json.dumps(results))
    return folder / 'truth.json', folder / 'results.json'


def judge(truth, results, kind='bbox'):
    """pycocotools' evaluation."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(truth)
        run = COCOeval(coco, coco.loadRes(str(results)), kind)
        run.evaluate()
        run.accumulate()
        run.summarize()
    return run


def read(truth, results, iou_thrs=(0.5,), **kwargs):
    images, objects = read_truth(truth, **kwargs)
    found = read_results(results, images)
    return images, objects, found, match(images, objects, found, iou_thrs)


FIXTURE = Path(os.environ.get('TRESNET_DET_DATA', '../shared/data')) / 'eval_fixtures'


@pytest.fixture(params=range(6))
def seed(request):
    return request.param


@pytest.fixture
def files(seed, tmp_path):
    return make_files(tmp_path, seed)


def as_masks(files):
    """The same objects as masks: triangles in place of boxes."""
    rows = json.loads(files[1].read_text())
    for row in rows:
        x, y, w, h = row.pop('bbox')
        code = mask.merge(mask.frPyObjects([[x, y, x + w, y, x, y + h]], 220, 220))
        row['segmentation'] = dict(size=code['size'], counts=code['counts'].decode())
    files[1].write_text(json.dumps(rows))


def test_numbers_of_rows_are_those_of_the_files_whatever_the_classes(tmp_path):
    files = make_files(tmp_path, 0)
    as_masks(files)
    content, rows = (json.loads(path.read_text()) for path in files)
    _, truth, found, _ = read(*files, classes=['class 2'], masks=True)
    for objects, entries in ((truth, content['annotations']), (found, rows)):
        assert {entries[n]['category_id'] for n in objects.row} == {5}
    last = max(n for n, row in enumerate(rows) if row['category_id'] == 5)
    rows[last]['segmentation']['size'] = [1, 1]
    files[1].write_text(json.dumps(rows))
    with pytest.raises(InputError, match=f'results.json: row {last}: the mask'):
        read(*files, classes=['class 2'], masks=True)


@pytest.mark.parametrize(('kind', 'images'), [('bbox', 30), ('segm', 30), ('segm', 80)])
def test_the_twelve_metrics_are_cocos(kind, images, tmp_path, seed):
    files = make_files(tmp_path, seed, images)
    if kind == 'segm':
        as_masks(files)
        assert images < 80 or len(json.loads(files[1].read_text())) > 255
    images, truth, found, matches = read(*files, IOU_THRS, masks=kind == 'segm')
    rates = find_rates(truth, found, matches, len(images.classes))
    metrics = summarize(*rates, COCO_IOUS)
    expected = dict(zip([row[0] for row in TWELVE], judge(*files, kind).stats, strict=True))
    assert metrics == pytest.approx(expected, rel=0, abs=1e-12)


def test_metrics_of_some_classes_and_of_drawn_images_are_those_of_such_files(files):
    content, rows = (json.loads(path.read_text()) for path in files)
    images, truth, found, matches = read(*files, IOU_THRS, classes=['class 3', 'class 1'])
    measure = mean_precision(truth, found, matches, len(images.classes), range(10))
    drawn = np.random.default_rng(1).integers(30, size=30)
    copies = [(n, np.array(images.ids)[image]) for n, image in enumerate(drawn)]
    # The copies of an image stand next to each other, as equal scores need.
    copies.sort(key=lambda copy: copy[1])
    chosen = {2 * n + 1 for n in (1, 3)}

    def redraw(entries):
        entries = [e for e in entries if e['category_id'] in chosen]
        drawn = [e | dict(image_id=n) for n, (_, i) in enumerate(copies) for e in entries
                 if e['image_id'] == i]  # fmt: skip
        return [entry | dict(id=n) for n, entry in enumerate(drawn, 1)]

    new = [dict(id=n, file_name=f'{n}.png', width=220, height=220) for n in range(30)]
    content |= dict(images=new, annotations=redraw(content['annotations']))
    content['categories'] = [c for c in content['categories'] if c['id'] in chosen]
    files[0].write_text(json.dumps(content))
    files[1].write_text(json.dumps(redraw(rows)))
    expected = judge(*files).stats[0]
    assert measure(np.bincount(drawn, minlength=30)) == pytest.approx(expected, rel=0, abs=1e-12)


def test_an_interval_covers_the_spread_of_a_mean_and_pairs_share_their_draws():
    values = np.random.default_rng(0).normal(0.5, 0.2, 400)

    def mean(weights):
        return weights @ values / weights.sum()

    one, two, difference = find_intervals([mean, lambda w: mean(w) + 0.1], 400, 400)
    assert (one.value, two.value) == pytest.approx((values.mean(), values.mean() + 0.1))
    expected = 1.96 * values.std() / 20
    assert (one.high - one.low) / 2 == pytest.approx(expected, rel=0.15)
    assert difference == pytest.approx((0.1, 0.1, 0.1))


def test_matches_and_average_precision_are_cocos(files):
    thrs = np.linspace(0.5, 0.95, 10)
    images, truth, found, matches = read(*files, thrs)
    run = judge(*files)
    objects = measures.count_objects(truth, len(images.classes))
    for t in range(len(thrs)):
        ours = measures.average_precisions(measures.points(found, matches, t), objects)
        theirs = run.eval['precision'][t, :, :, 0, 2]
        expected = np.where((theirs > -1).all(0), theirs.mean(0), np.nan)
        assert ours == pytest.approx(expected, rel=0, abs=1e-12, nan_ok=True)
    rows = {found.row[n] + 1: n for n in range(len(found))}
    ids = [a['id'] for a in json.loads(files[0].read_text())['annotations']]
    for entry in run.evalImgs:
        if entry is None or entry['aRng'] != [0, 1e10]:
            continue
        ours = [rows[number] for number in entry['dtIds']]
        assert (matches.ignored[:, ours] == entry['dtIgnore']).all()
        taken = matches.taken[:, ours]
        theirs = np.where(taken == NONE, 0, np.array(ids)[truth.row[taken]])
        assert (theirs == entry['dtMatches']).all()


def reference_counts(truth, found, matches, label, threshold):
    """Right, wrong and missed of a class by two loops, for unmatched crowds too."""
    right = wrong = 0
    for n in range(len(found)):
        if found.label[n] == label and found.score[n] >= threshold and not matches.ignored[0, n]:
            if matches.taken[0, n] != NONE:
                right += 1
            else:
                wrong += 1
    objects = sum(1 for g in range(len(truth)) if truth.label[g] == label and not truth.crowd[g])
    return right, wrong, objects - right


def test_curves_are_those_of_counting_at_each_threshold(files):
    images, truth, found, matches = read(*files)
    of = measures.points(found, matches)
    objects = measures.count_objects(truth, len(images.classes))
    for label in range(len(images.classes)):
        curve = measures.curve(measures.of_class(of, label), objects[label])
        for n, threshold in enumerate(np.linspace(0, 1, 101)):
            right, wrong, missed = reference_counts(truth, found, matches, label, threshold)
            assert (curve.right[n], curve.wrong[n], curve.missed[n]) == (right, wrong, missed)
            precision = right / (right + wrong) if right + wrong else 1.0
            assert curve.precision[n] == pytest.approx(precision, abs=1e-12)
            total = 2 * right + wrong + missed
            assert curve.f1[n] == pytest.approx(2 * right / total if total else 0, abs=1e-12)


@pytest.mark.parametrize('threshold', [0.0, 0.3, 0.9])
def test_the_matrix_has_the_counts_of_the_curves(files, threshold):
    images, truth, found, matches = read(*files)
    classes = len(images.classes)
    thresholds = np.full(classes, threshold)
    matrix = measures.confusion_matrix(truth, found, matches, classes, thresholds)
    of = measures.points(found, matches)
    objects = measures.count_objects(truth, classes)
    assert matrix[:-1].sum(1).tolist() == objects.tolist()
    for label in range(classes):
        curve = measures.curve(measures.of_class(of, label), objects[label], np.array([threshold]))
        assert matrix[label, label] == curve.right[0]
        assert matrix[:, label].sum() - matrix[label, label] == curve.wrong[0]
        assert matrix[label].sum() - matrix[label, label] == curve.missed[0]


def test_errors_and_their_costs_are_tides(files, monkeypatch):
    import tidecv  # takes its time

    # Its recalls are hundredths; COCO's are rounded otherwise, which a recall of 0.35 shows.
    monkeypatch.setattr(measures, 'RECALLS', np.arange(101) / 100)
    # Its crowds match otherwise, a class without objects counts as an AP of 0, and of equal scores
    # those of errors come first.
    content = json.loads(files[0].read_text())
    content['annotations'] = [a for a in content['annotations'] if not a['iscrowd']]
    content['categories'] = content['categories'][:-1]
    files[0].write_text(json.dumps(content))
    rows = [r for r in json.loads(files[1].read_text()) if r['category_id'] < 9]
    for n, row in enumerate(rows):
        row['score'] = 0.99 * row['score'] + 1e-5 * n
    files[1].write_text(json.dumps(rows))
    images, truth, found, matches = read(*files)
    errors = measures.find_errors(truth, found, matches, len(images.classes))
    with contextlib.redirect_stdout(io.StringIO()):
        run = tidecv.TIDE()
        run.evaluate(
            tidecv.datasets.COCO(str(files[0])), tidecv.datasets.COCOResult(str(files[1])),
            mode=tidecv.TIDE.BOX,
        )  # fmt: skip
    main = run.get_main_errors()['results']
    names = dict(zip(('Cls', 'Loc', 'Both', 'Dupe', 'Bkg', 'Miss'), measures.ERRORS, strict=True))
    for name, cost in main.items():
        assert 100 * errors.cost[names[name]] == pytest.approx(cost, abs=1e-6)
