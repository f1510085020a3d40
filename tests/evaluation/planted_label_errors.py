"""Label errors that are planted, and how many of them the predictions find.

``python tests/evaluation/planted_label_errors.py ANN RESULTS``, real predictions of either,
prints for each kind of error the share of planted ones among as many of the likeliest suspects.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from tresnet_det.evaluation.detections import read_results, read_truth
from tresnet_det.evaluation.labels import is_of_labels, read_labels
from tresnet_det.evaluation.matching import match
from tresnet_det.evaluation.suspects import (
    BADLY_PLACED,
    MISSING,
    MISSING_LABEL,
    SURE,
    SURE_LABEL,
    WRONG_CLASS,
    WRONG_LABEL,
    find_boxes,
    find_labels,
)

SHARE = 0.05  # of the boxes or labels, as many of each kind
SEEDS = 10


def plant(content, seed, share=SHARE):
    """Return a COCO file's content with errors, and by kind the annotations as they were."""
    rng = np.random.default_rng(seed)
    annotations = [{**a, 'bbox': list(a['bbox'])} for a in content['annotations']]
    count = max(1, round(share * len(annotations) / 3))
    chosen = rng.permutation(len(annotations))[: 3 * count].reshape(3, count)
    kinds = dict(zip((MISSING, WRONG_CLASS, BADLY_PLACED), chosen, strict=True))
    planted = {kind: [content['annotations'][n] for n in rows] for kind, rows in kinds.items()}
    numbers = [category['id'] for category in content['categories']]
    for n in kinds[WRONG_CLASS]:
        others = [number for number in numbers if number != annotations[n]['category_id']]
        annotations[n]['category_id'] = int(rng.choice(others))
    for n in kinds[BADLY_PLACED]:  # by a quarter to a half of its sides
        left, top, width, height = annotations[n]['bbox']
        by = rng.uniform(0.25, 0.5, 2) * rng.choice([-1, 1], 2)
        annotations[n]['bbox'] = [left + by[0] * width, top + by[1] * height, width, height]
    gone = set(kinds[MISSING].tolist())
    kept = [a for n, a in enumerate(annotations) if n not in gone]
    return {**content, 'annotations': kept}, planted


def overlap(one, other):
    """IoU of two boxes, by its definition."""
    (x, y, w, h), (u, v, a, b) = one, other
    inside = max(0, min(x + w, u + a) - max(x, u)) * max(0, min(y + h, v + b) - max(y, v))
    return inside / (w * h + a * b - inside)


def count_found(content, rows, planted=None, sure=SURE):
    """Return of each kind the share of planted errors among as many of the likeliest suspects.

    And how many suspects there are that are shown, as a share of the boxes.
    """
    with tempfile.TemporaryDirectory() as folder:
        for name, what in (('truth', content), ('results', rows)):
            Path(folder, name).write_text(json.dumps(what))
        images, truth = read_truth(f'{folder}/truth')
        found = read_results(f'{folder}/results', images)
    suspects = find_boxes(truth, found, match(images, truth, found))
    shares = {}
    for kind, errors in (planted or {}).items():
        likeliest = [s for s in suspects if s.kind == kind][: len(errors)]
        if kind == MISSING:
            there = [(a['image_id'], a['bbox']) for a in errors]
            hits = [
                any(i == images.ids[s.image] and overlap(found.boxes[s.found], box) >= 0.5
                    for i, box in there)
                for s in likeliest
            ]  # fmt: skip
        else:
            ids = {a['id'] for a in errors}
            hits = [content['annotations'][truth.row[s.object]]['id'] in ids for s in likeliest]
        shares[kind] = sum(hits) / len(errors)
    shown = sum(s.suspicion >= sure for s in suspects) / len(truth)
    return shares, shown


def predict(content, seed):
    """Return detections as a fair detector has them, from ground truth: AP50 about 0.9.

    Most objects are found, at a score and a place that vary; some are found as another class, too,
    or twice, or not; and there are detections of nothing, of low scores.
    """
    rng = np.random.default_rng(seed)
    numbers = [category['id'] for category in content['categories']]
    rows = []

    def add(image, number, box, score, spread):
        box = np.array(box, float)
        box = box + rng.normal(0, spread, 4) * np.tile(box[2:], 2)
        score = float(np.clip(score, 0.01, 0.99))
        rows.append(dict(image_id=image, category_id=number, bbox=box.tolist(), score=score))

    for a in content['annotations']:
        image, number, box = a['image_id'], a['category_id'], a['bbox']
        sure = rng.beta(4, 5)
        if rng.random() < 0.99:
            add(image, number, box, sure, 0.04)
        if rng.random() < 0.5:
            add(image, int(rng.choice(numbers)), box, sure * rng.beta(2, 4), 0.04)
        if rng.random() < 0.3:
            add(image, number, box, sure * rng.beta(2, 6), 0.15)
    for image in content['images']:
        for _ in range(5):
            size = rng.uniform(10, 40, 2)
            place = rng.uniform(0, 1, 2) * (image['width'] - size)
            add(image['id'], int(rng.choice(numbers)), [*place, *size], rng.beta(1, 30), 0)
    return rows


def count_found_labels(labels, seed):
    """Plant errors in labels of images; return what `count_found` does."""
    rng, truth = np.random.default_rng(seed), labels.truth.copy()
    count = round(SHARE * (truth == 1).sum() / (1 + labels.several))
    if labels.several:
        kinds = {
            MISSING_LABEL: rng.permutation(np.argwhere(truth == 1))[:count],
            WRONG_LABEL: rng.permutation(np.argwhere(truth == 0))[:count],
        }
        for cells in kinds.values():
            truth[tuple(cells.T)] ^= 1
    else:
        rows = rng.permutation(len(truth))[:count]
        kinds = {WRONG_CLASS: np.stack([rows, truth[rows].argmax(1)], 1)}
        for n in rows:
            truth[n] = np.roll(truth[n], rng.integers(1, truth.shape[1]))
    suspects, shares = find_labels(replace(labels, truth=truth)), {}
    for kind, cells in kinds.items():
        likeliest = [s for s in suspects if s.kind == kind][:count]
        places = {(s.image, s.labelled if kind == WRONG_LABEL else s.predicted) for s in likeliest}
        shares[kind] = len(places & {*map(tuple, cells.tolist())}) / count
    shown = sum(s.suspicion >= SURE_LABEL for s in find_labels(labels))
    return shares, shown / (labels.truth.size if labels.several else len(truth))


def main(ann, results):
    if is_of_labels(results):
        labels = read_labels(ann, results)
        found = [count_found_labels(labels, seed) for seed in range(SEEDS)]
        shares, clean = [one for one, _ in found], found[0][1]
    else:
        truth, rows = (json.loads(Path(file).read_text()) for file in (ann, results))
        planted = [plant(truth, seed) for seed in range(SEEDS)]
        shares = [count_found(content, rows, errors)[0] for content, errors in planted]
        clean = count_found(truth, rows)[1]
    print(f'without errors {100 * clean:.1f} % are shown')
    for kind in shares[0]:
        each = [share[kind] for share in shares]
        print(
            f'{kind}: {np.mean(each):.2f}, of seed 0 to {SEEDS - 1}: {np.round(each, 2).tolist()}'
        )


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('ann', metavar='ANN')
    parser.add_argument('results', metavar='RESULTS')
    main(**vars(parser.parse_args()))
