"""Where the images of a split are: in which folder, which are missing, which have another name.

Labelling tools write backslashes, URLs, paths of another machine, a prefix of their upload, an
ending in other letters or none; a file system may keep accents in another Unicode form. Such names
are matched by `RULES`, and the rule is told.
"""

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import numpy as np

from ..errors import InputError, MissingFileError, shown
from .files import SUFFIXES, child_folders, list_all, not_found
from .findings import Findings
from .split import Split, role_of

DEPTH = 3  # folders below the data's own in which images are looked for
SAMPLE = 100  # names by which the folder of images is found
UPLOAD = re.compile('^[0-9a-f]{8}-(?=.)')  # Label Studio's


def _plain(path: str) -> str:
    """Return a path with /, decoded where it is of a URL, in one Unicode form."""
    path = path.rpartition('?d=')[2]  # Label Studio's local files
    path = path.partition('?')[0] if '://' in path else path
    return unicodedata.normalize('NFC', unquote(path)).replace('\\', '/')


def _folded(path: str) -> str:
    return _plain(path).casefold()


def without_ending(path: str) -> str:
    """Return a path with /, and without the ending of an image."""
    stem, ending = os.path.splitext(_plain(path))
    return stem if ending.lower() in SUFFIXES else _plain(path)


def _without_upload(path: str) -> str:
    folder, name = os.path.split(_folded(path))  # Label Studio keeps no spaces or brackets
    plain = re.sub('[][()]', '', UPLOAD.sub('', name).replace(' ', '_'))
    return os.path.join(folder, plain)


# In this order; each makes of a name and of a file what has to be the same.
RULES: dict[str, Callable[[str], str]] = {
    'in another folder': str,
    'by backslashes, URL encoding or the Unicode form': _plain,
    'by the case of letters': _folded,
    'by an ending that the name lacks': without_ending,
    "without Label Studio's prefix": _without_upload,
}


def locate(split: Split, findings: Findings, names_in: Callable[[str], set[str]]) -> Split:
    """Find which images of a split exist, in which folder, and under which other name.

    Args:
        split: It is not changed.
        findings: Gets what is missing, and the rules by which names are matched.
        names_in: Lists a folder; see :func:`~tresnet_det.readers.files.list_folder`.

    Returns:
        The split with ``found``, and with the folder and names that its images have.
    """
    add = split.about(findings)
    source, nothing = split.source, np.zeros(len(split.files), bool)
    if source.search and split.files:
        try:
            folder = find_images(source.folder, split.files, source.ann_file, source.role)
            split = replace(split, folder=folder)
        except InputError as error:
            matched = _match(split, nothing, findings, names_in)
            if matched is not None:
                return matched
            bare = _bare(os.path.basename(_plain(split.files[0])))
            images = list_all(source.folder)
            close = [f for f in images if _bare(os.path.basename(f)) == bare][:3]
            hint = f' (there is {", ".join(close)})' if close else ''
            add('images-not-found', [type(error)(f'{error}{hint}')])
    if not split.folder.is_dir():
        add('missing-folder', [not_found('image folder', split.folder)])
    if findings.has(split.name, 'missing-folder', 'images-not-found'):
        return replace(split, found=nothing)
    pairs = [os.path.split(file) for file in split.files]
    there, by_small_letters = dict[str, set[str]](), dict[str, dict[str, str]]()
    for part in {part for part, _ in pairs}:
        try:
            there[part] = names_in(os.path.join(split.folder, part))
        except InputError as error:
            there[part] = set()
            add('missing-folder', [error])

    def describe(row: int) -> str:
        part, name = pairs[row]
        if part not in by_small_letters:
            by_small_letters[part] = {_bare(name): name for name in there[part]}
        close = by_small_letters[part].get(_bare(name))
        return split.files[row] + (f' (there is {close})' if close else '')

    found = np.array([name in there[part] for part, name in pairs], bool)
    matched = None if found.all() else _match(split, found, findings, names_in)
    if matched is not None:
        return matched
    add('missing-image', np.flatnonzero(~found).tolist(), describe, len(pairs))
    return replace(split, found=found)


def _match(
    split: Split, found: np.ndarray, findings: Findings, names_in: Callable[[str], set[str]]
) -> Split | None:
    """Return the split with the files that names mean by a rule; None where there is no such.

    Args:
        split: Of your own data; of others, what is missing stays so.
        found: ``(N,)``, which images are there as they are named.
        findings: Gets the rules.
        names_in: Lists a folder.
    """
    source = split.source
    if not source.fills_in:
        return None
    place = os.path.relpath(split.folder, source.folder)
    known = [os.path.normpath(os.path.join(place, file)) for file in split.files]
    taken = {file for file, there in zip(known, found, strict=True) if there}
    images = [file for file in list_all(source.folder) if file not in taken]
    lost = np.flatnonzero(~found).tolist()
    meant, lines = match_names([split.files[row] for row in lost], images, source.role)
    if not meant:
        return None
    split.about(findings)('filled-in', [f'{source.ann_file}: {line}' for line in lines])
    for i, file in meant.items():
        known[lost[i]] = file
    source = replace(source, search=False, fills_in=False)
    again = replace(split, source=source, folder=source.folder, files=known, named={*known})
    again = locate(again, findings, names_in)
    return replace(again, source=split.source, changed=True)


def match_names(
    names: Sequence[str], files: Iterable[str], role: str
) -> tuple[dict[int, str], list[str]]:
    """Find which files are meant by names that are not found as they are.

    Of several files with a name, it is the one whose folders are the name's own last ones. A file
    in a folder of another split, or that several names could mean, is none of them.

    Args:
        names: As the annotations have them.
        files: Those that nothing names, relative to the folder of the data.
        role: ``'train'``, ``'val'`` or ``'test'``.

    Returns:
        The file by the number of its name, and a line for each rule that was used.
    """
    free = [file for file in files if _serves(file, role)]
    found: dict[int, str] = {}
    lines = []
    for rule, key in RULES.items():
        index: dict[str, str | None] = {}  # by all ends of a path; None where several have it
        for file in free:
            for end in _ends(key(file)):
                index[end] = None if end in index else file
        chosen: defaultdict[str, list[int]] = defaultdict(list)
        for i, name in enumerate(names):
            if i in found or (key is without_ending and name.lower().endswith(SUFFIXES)):
                continue
            meant = next((index[end] for end in _ends(key(name)) if end in index), None)
            if meant is not None:
                chosen[meant].append(i)
        new = {rows[0]: file for file, rows in chosen.items() if len(rows) == 1}
        if new:
            first = min(new)
            lines.append(
                f'{len(new)} names are matched {rule}, first {names[first]!r} is {new[first]!r}'
            )
        found |= new
        free = [file for file in free if file not in chosen]
    return found, lines


def _serves(file: str, role: str) -> bool:
    roles = set(map(role_of, os.path.dirname(file).split('/'))) - {None, 'trainval'}
    return not roles or role in roles


def _ends(path: str) -> Iterator[str]:
    """Yield a path, and it without its first folder, without its first two, to the bare name."""
    parts = path.split('/')
    return ('/'.join(parts[n:]) for n in range(len(parts)))


def _bare(name: str) -> str:
    """Return a name without what people and tools change most: case, ending, Unicode form."""
    return os.path.splitext(_folded(name))[0]


def find_images(root: Path, names: Sequence[str], ann_file: Path, role: str) -> Path:
    """Find the folder that the image files of an annotation file are relative to.

    Where several folders have them (as where each split counts from 1), it is the one next to the
    file, or with the file's name, or with a name of the role.

    Args:
        root: Folder of the data.
        names: As the file has them, at least one.
        ann_file: The file.
        role: ``'train'``, ``'val'`` or ``'test'``.

    Raises:
        MissingFileError: No folder has any of them.
        InputError: Several have them, and nothing tells which are meant.
    """
    sample = names[:: max(1, len(names) // SAMPLE)]
    counts = {
        folder: sum(os.path.isfile(folder / name) for name in sample)
        for folder in _walk_down(root, DEPTH)
    }
    most = max(counts.values())
    if not most:
        raise MissingFileError(
            f'{ann_file}: names images such as {shown(names[0])}, and no folder below {root} has '
            'them: put them there, under the names that it gives'
        )
    split = re.sub('^instances_', '', ann_file.stem)

    def rank(folder: Path) -> tuple[bool, bool, bool, int]:
        parts = folder.relative_to(root).parts
        named = split in parts or role in map(role_of, parts)
        return folder == ann_file.parent, split in parts, named, counts[folder]

    # A folder of the right name may lack some images, which the data's checks then tell.
    able = [folder for folder, count in counts.items() if count >= most / 2]
    best = max(map(rank, able))
    chosen = [folder for folder in able if rank(folder) == best]
    if len(chosen) > 1:
        raise InputError(
            f'{ann_file}: {chosen[0]} and {chosen[1]} both have images of its names: move one '
            'away, or give the right one a name of the split'
        )
    return chosen[0]


def _walk_down(root: Path, depth: int) -> Iterator[Path]:
    yield root
    if depth:
        for child in child_folders(root):
            yield from _walk_down(child, depth - 1)
