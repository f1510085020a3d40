"""One's own data made ready for a config: converted where it must be, with a part to validate on.

Nothing is written into the data's folder. What has to be written, COCO's JSON or lists of labels,
appears whole or not at all in a folder of the caller's.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ...errors import InputError, few
from .layouts import Layout
from .own_boxes import prepare_boxes
from .own_labels import prepare_folders, prepare_labels
from .ready import OwnData
from .roles import ROLES


def prepare_splits(
    layout: Layout,
    task: str,
    out_dir: str | os.PathLike,
    classes: Sequence[str] | None = None,
    testing: bool = False,
) -> OwnData:
    """Make the splits of a layout ready.

    Where there is none to validate on, a tenth of the training images becomes it, see
    :mod:`~tresnet_det.datasets.formats.held_out`: of the images with boxes and of
    those without, of those with a label, or of each class where an image has one.

    Args:
        layout: Of :func:`find_layout`.
        task: As there.
        out_dir: Gets what has to be written; made only where that is anything.
        classes: Names in the order of the labels, such as a checkpoint's; the data must have no
            others. None takes the data's own: COCO's in their order, but for the empty category by
            which Roboflow names a project; YOLO's by number; VOC's and others' by name.
        testing: Whether only what is measured on matters: the test split, or else the validation.

    Raises:
        InputError: A file is wrong, a split is missing, or the classes do not fit.
    """
    if 'train' not in layout.splits and not (testing and layout.splits):
        raise InputError(
            f'{layout.root}: nothing in it is for training, there is {few(layout.splits)}: put '
            'train into the name of the part to learn from'
        )
    roles = [role for role in ROLES if role in layout.splits]
    if testing and classes:
        roles = [role for role in roles if role != 'train'] or roles
    if layout.kind in ('coco', 'voc', 'yolo'):
        data = prepare_boxes(layout, roles, Path(out_dir), classes, task)
    elif task == 'multilabel':
        data = prepare_labels(layout, roles, Path(out_dir), classes)
    else:
        data = prepare_folders(layout, roles, Path(out_dir), classes)
    return replace(data, notes=[*layout.notes, *data.notes])
