"""What to do next, after what costs a detector most."""

import math
from typing import Any

from ..compat.installed import tool_command
from ..errors import quote
from .matching import AREAS
from .report import format_threshold

LEAST_COST = 0.01  # of AP50, below which an error is not worth a step
FEWEST = 20  # objects of a class, below which its AP says little
MANY = 0.1  # of the objects, above which those missed at the threshold are worth a word

_STEPS = {
    'classification': 'objects are found and given another class{pairs}. Check whether these '
    'classes are labelled consistently, add images that tell them apart, or merge them',
    'localization': 'objects are found, and their boxes fit badly. Look at the worst images: where '
    'the ground truth is drawn loosely, correct it; otherwise train longer, or with '
    'larger images',
    'both': 'boxes fit badly and have another class as well. More training, or more images of the '
    'classes at the top of the table of classes, is what helps with these',
    'duplicate': 'objects are found several times. Lower the IoU threshold of NMS '
    '(--cfg-options model.test_cfg.nms.iou_threshold=0.5; of two stages, '
    'model.test_cfg.rcnn.nms.iou_threshold)',
    'background': 'there are predictions where nothing is labelled. Look at the worst images: some '
    'may be objects without a label; of the rest, add images without objects that look '
    'like them',
    'missed': 'objects are not found{sizes}. Add images of these{larger}, or train longer',
}


def advise(result: Any) -> list[str]:
    """Return steps, the most valuable first.

    Args:
        result: `Detections`.
    """
    costs = sorted(result.errors.cost.items(), key=lambda item: -item[1])
    sizes = _missed_sizes(result)
    larger = ' and train with larger images' * ('small' in sizes)
    words = dict(pairs=_pair(result), sizes=sizes, larger=larger)
    steps = [
        f'{kind.capitalize()} errors cost {cost:.3f} AP50: {_STEPS[kind].format(**words)}.'
        for kind, cost in costs[:2]
        if cost >= LEAST_COST and cost >= costs[0][1] / 3
    ]
    if not result.objects.any():
        steps = ['There is no ground truth, so nothing can be measured.']
    elif not len(result.found):
        steps.insert(
            0,
            'Nothing was found, at any score: train longer, with more images, or with larger ones.',
        )
    elif not result.points.right.any():
        steps.insert(
            0,
            'Nothing that was found is right: check that the weights were trained on these '
            'classes, that class ids are those of the annotations, and the score threshold.',
        )
    elif not steps:
        steps = ['No kind of error costs 0.01 AP50 or more: harder test images would show more.']
    measured = [row for row in result.per_class if row['AP'] is not None]
    if len(measured) > 1:
        worst = min(measured, key=lambda row: row['AP'])
        few = worst['num_gt'] < FEWEST
        steps.append(
            f"The weakest class is '{worst['name']}' (AP {worst['AP']:.3f}, {worst['num_gt']} "
            'objects). '
            + (
                'So few objects say little: label more of it for the test, too.'
                if few
                else f'Which errors cost it most: {tool_command("evaluate")} ... --classes '
                f'{quote(worst["name"])}.'
            )
        )
    if result.threshold is not None:
        score = format_threshold(result.threshold)
        steps.append(f'To use the detector, show predictions from the score {score} on ')
        steps[-1] += f'({tool_command("predict")} ... --score-thr {score}).'
        missed, objects = int(result.at_cut.missed[0]), int(result.objects.sum())
        never = objects - int(result.points.right.sum())
        if missed > MANY * objects:
            steps[-1] += (
                f' Then {missed} of {objects} objects have no right prediction, {never} of them at '
                'any score'
            )
            recall = min(0.95, math.floor(20 * (1 - never / objects)) / 20)
            steps[-1] += (
                f': where this matters more than wrong predictions, choose a lower one '
                f'({tool_command("evaluate")} ... --recall {recall:g}).'
                if recall > 1 - missed / objects
                else '.'
            )
    return steps


def _pair(result: Any) -> str:
    pairs = result.confused_pairs()
    return ", most often '{}' as '{}' ({} times)".format(*pairs[0]) if pairs else ''


def _missed_sizes(result: Any) -> str:
    """Say which sizes are missed more often than others, at the operating threshold."""
    truth, matches = result.truth, result.matches
    hit = matches.taken[0, matches.right[0, 0] & (result.found.score >= result.cut)]
    missed = ~truth.crowd
    missed[hit] = False
    shares = {}
    for name, (low, high) in list(AREAS.items())[1:]:
        inside = ~truth.crowd & (truth.area >= low) & (truth.area <= high)
        if inside.sum() >= FEWEST:
            shares[name] = missed[inside].mean()
    if not shares or result.threshold is None:
        return ''
    worst = max(shares, key=lambda name: shares[name])
    return f'; at the threshold, {100 * shares[worst]:.0f} % of the {worst} ones are missed'
