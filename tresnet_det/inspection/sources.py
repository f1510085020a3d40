"""Where the data is that a user gave to ``check_data.py``: a file with its images, or a folder."""

import os
import re
from pathlib import Path

from ..errors import InputError, MissingFileError
from ..readers.config import FILE_KINDS
from ..readers.findings import Findings
from ..readers.layouts import check_training, find_layout, layout_sources
from ..readers.roles import role_of
from ..readers.split import Source


def find_sources(
    findings: Findings, path: Path, img_dir: Path | None = None, *, alone: bool = False
) -> list[Source]:
    """Recognise the data at a path that a user gave.

    Args:
        findings: Gets what of a layout is wrong or skipped.
        path: An annotation file (``.json``, ``.csv``, ``.txt``), or what `find_layout` recognises.
        img_dir: The images of an annotation file; without it they are looked for around it.

        alone: Whether it is all of the data, so that a folder must have a part for training.

    Raises:
        MissingFileError: A path does not exist.
        InputError: There is no data that is known.
    """
    if img_dir is not None and not img_dir.is_dir():
        raise MissingFileError(f'{img_dir}: no folder there; give the folder of the images')
    if path.suffix.lower() in FILE_KINDS and not path.is_dir():
        if not path.is_file():
            raise MissingFileError(f'{path}: no file there')
        return [_file_source(path, img_dir)]
    if path.is_file() and path.suffix not in ('.yaml', '.yml'):
        raise InputError(f'{path}: give a config (.py), a .json, .csv or .txt file, or a folder')
    if img_dir is not None:
        raise InputError(
            f'{path} is all of the data already, so what is {img_dir}? Give one folder, an '
            'annotation file and its folder, or name the validation data by --val'
        )
    layout = find_layout(path, None, strict=False)
    add = findings.about(f'{layout.root.name}/', layout.root)
    add('bad-layout', layout.faults)
    add('left-out', layout.notes)
    if alone and not layout.faults:
        check_training(layout, findings)
    return layout_sources(layout, list(layout.splits))


def _file_source(path: Path, img_dir: Path | None) -> Source:
    name = re.sub('^instances_', '', path.stem)
    if name.startswith('_annotations'):  # next to the images, as Roboflow exports
        name = path.parent.name
    root = path.parent.parent if path.parent.name in ('annotations', 'meta') else path.parent
    kind, role = FILE_KINDS[path.suffix.lower()], role_of(name)
    role = role if role in ('val', 'test') else 'train'
    return Source(
        name,
        kind,
        Path(os.path.abspath(path)),
        Path(os.path.abspath(img_dir or root)),
        training=role == 'train',
        detection=kind == 'coco',
        own=True,
        search=img_dir is None,
        role=role,
    )
