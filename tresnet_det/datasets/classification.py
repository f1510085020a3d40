"""What the classification datasets share: images and labels in memory, a pipeline, checks."""

import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import torch
from mmengine.logging import print_log
from torch.utils.data import Dataset

from ..errors import InputError, MissingFileError, few, shown
from ..models import ClsDataSample
from .checks import check_unique, find_absent_images
from .decode import decode_rgb
from .formats.folders import inner_folders, walk
from .formats.text_files import read_lines
from .pipeline import build_transforms


class LabelledImages(Dataset):
    """Images with their labels, read and transformed when they are asked for.

    A sample is what MMEngine's Runner hands to a model: ``inputs``, ``(3, H, W)`` of uint8 in RGB,
    and ``data_samples``, a ``ClsDataSample`` with ``gt_label``, ``img_path``, ``ori_shape`` and
    ``img_shape`` (height and width). The colours are normalised by the model's data preprocessor,
    which must not swap them: ``bgr_to_rgb=False``.

    A subclass says how many images there are, where they are and how one is read.

    Args:
        classes: Names of the classes.
        pipeline: Transforms, as :func:`build_transforms` takes them.
    """

    def __init__(self, classes: Sequence[str], pipeline: Sequence[Mapping]) -> None:
        self._classes = tuple(classes)
        self._transforms = build_transforms(pipeline)

    @property
    def metainfo(self) -> dict:
        """``classes``: the names in the order of the labels."""
        return dict(classes=self._classes)

    def __len__(self) -> int:
        raise NotImplementedError

    def img_path(self, index: int) -> str:
        """Return the file of an image."""
        raise NotImplementedError

    def read(self, index: int) -> tuple[torch.Tensor, np.ndarray | int]:
        """Return an image, ``(3, H, W)`` of uint8 in RGB, and its label, before any transform."""
        raise NotImplementedError

    def full_init(self) -> None:
        """Do nothing: MMEngine's ConcatDataset and RepeatDataset ask it of what they wrap."""

    def __getitem__(self, index: int) -> dict:
        """Return a sample.

        Raises:
            InputError: The image does not decode, or the pipeline gives no uint8 tensor.
        """
        image, label = self.read(index)
        inputs = self._transforms(image)
        if not (torch.is_tensor(inputs) and inputs.dtype == torch.uint8 and inputs.dim() == 3):
            got = inputs.dtype if torch.is_tensor(inputs) else type(inputs).__name__
            raise InputError(
                f'the pipeline gives {got} and not a uint8 tensor (3, H, W): leave conversions and '
                "Normalize out of it, the model's data_preprocessor normalises"
            )
        sample = ClsDataSample(
            metainfo=dict(
                img_path=self.img_path(index),
                ori_shape=tuple(image.shape[1:]),
                img_shape=tuple(inputs.shape[1:]),
            )
        )
        sample.gt_label = torch.from_numpy(np.array(label, np.int64))
        # A worker would send all of the image that a crop is a view of.
        return dict(inputs=inputs.contiguous(), data_samples=sample)


class ClassificationDataset(LabelledImages):
    """Image files in a folder, with their labels in memory.

    Args:
        folder: Holds the images.
        names: ``N`` image files, relative to ``folder``.
        gt_labels: Class numbers, ``(N,)`` of int64; or several an image, ``(N, classes)`` of int8
            with 1, 0 and -1 for unknown.
        classes: Names of the classes.
        pipeline: Transforms, as :func:`build_transforms` takes them.

    Attributes:
        gt_labels: As given, by image.
    """

    def __init__(
        self,
        folder: Path,
        names: Sequence[str],
        gt_labels: np.ndarray,
        classes: Sequence[str],
        pipeline: Sequence[Mapping],
    ) -> None:
        super().__init__(classes, pipeline)
        self.folder = folder
        # One array and not a million strings, whose counts each worker would write to, and so copy.
        self._names = np.array([os.fsencode(name) for name in names])
        self.gt_labels = gt_labels

    def __len__(self) -> int:
        return len(self._names)

    def img_path(self, index: int) -> str:
        return os.path.join(self.folder, os.fsdecode(self._names[index]))

    def read(self, index: int) -> tuple[torch.Tensor, np.ndarray]:
        return decode_rgb(self.img_path(index)), self.gt_labels[index]


def resolve_folder(data_root: str, data_prefix: Mapping | None) -> Path:
    """Return the folder of the images, ``data_root`` with ``data_prefix['img']``.

    Raises:
        MissingFileError: It is not there.
        InputError: ``data_prefix`` has another key.
    """
    prefix = dict(data_prefix or {})
    folder = Path(data_root, prefix.pop('img', ''))
    if prefix:
        raise InputError(
            f"data_prefix has the key {next(iter(prefix))!r}: write data_prefix=dict(img='FOLDER/')"
        )
    if not folder.is_dir():
        raise MissingFileError(
            f'image folder {folder.absolute()} is not there: set data_root and data_prefix'
        )
    return folder


def resolve_classes(metainfo: Mapping | None) -> tuple[str, ...] | None:
    """Return ``metainfo['classes']``, None where it is not set.

    They may be a text file with a name on each line, as MMEngine allows.

    Raises:
        MissingFileError: There is no such file.
        InputError: They are no names, or one is there twice.
    """
    classes = (metainfo or {}).get('classes')
    if classes is None:
        return None
    if isinstance(classes, str):
        if not os.path.isfile(classes):
            raise MissingFileError(
                f'metainfo.classes is {classes!r}, which is no file: give a tuple of names '
                f'(one name: ({classes!r},)), or a text file with a name on each line'
            )
        lines = read_lines(Path(classes))
        classes = [line.strip() for line in lines if line.strip()]
    odd = [name for name in classes if not isinstance(name, str)]
    if odd or not classes:
        raise InputError(f'metainfo.classes must be names, got {str(odd or classes)[:80]}')
    check_unique(classes)
    return tuple(classes)


def suggest(name: str, known: Sequence[str]) -> str:
    """Say which of the known names may have been meant, or what they are."""
    folded = {key.casefold(): key for key in known}
    close = get_close_matches(name.casefold(), folded)
    return f'did you mean {folded[close[0]]!r}?' if close else f'known are {few(known)}'


def check_image_files(
    folder: Path, names: Sequence[str], source: str, rows: Sequence[int] | None = None
) -> None:
    """Hold that every image that a file names is there.

    Args:
        folder: Holds the images.
        names: Image files, relative to it.
        source: The file that names them.
        rows: Row of each in that file.

    Raises:
        MissingFileError: Some are not there.
        InputError: A folder cannot be listed.
    """
    lost = find_absent_images(folder, names)
    if lost:
        where = f'{source}:{rows[lost[0]]}' if rows else source
        raise MissingFileError(
            f'{where}: the image {shown(names[lost[0]])} is not in {folder.absolute()} '
            f'({len(lost)} of {len(names)} are not): '
            + ('complete the folder' if len(lost) < len(names) else 'is data_prefix.img right?')
        )


def check_repeats(ann_file: Path, names: Sequence[str], rows: Sequence[int]) -> None:
    """Hold that no image is named twice.

    Args:
        ann_file: The file that names them.
        names: Image files.
        rows: Row of each in that file.

    Raises:
        InputError: One is.
    """
    first: dict[str, int] = {}
    for row, name in zip(rows, names, strict=True):
        if name in first:
            raise InputError(
                f'{ann_file}:{row}: the image {shown(name)} was in row {first[name]} already: '
                'remove one of the rows'
            )
        first[name] = row


def find_class_images(
    folder: Path, classes: Sequence[str] | None
) -> tuple[list[str], list[int], tuple[str, ...]]:
    """List a folder that holds a folder of images for each class, as torchvision does.

    Hidden folders are passed over, and so are those that are not in ``classes``, with a word.

    Args:
        folder: Holds the class folders.
        classes: Their names in the order of the labels; None for all, sorted by name.

    Returns:
        Image files relative to ``folder``, sorted within each class; the class number of each;
        the classes.

    Raises:
        InputError: There is no class folder, one of ``classes`` has none, or one has no image.
    """
    from torchvision.datasets.folder import IMG_EXTENSIONS

    found = inner_folders(folder)
    if not found:
        raise InputError(
            f'{folder.absolute()}: no class folders in it: put the images of each class into '
            'a folder with its name, or name a label file by ann_file'
        )
    if classes is None:
        classes = tuple(found)
    for name in classes:
        if name not in found:
            raise InputError(
                f'{folder.absolute()}: no folder for the class {name!r} of metainfo.classes: '
                + suggest(name, found)
            )
    others = [name for name in found if name not in set(classes)]
    if others:
        print_log(
            f'{folder}: the folders {few(others)} are no class of metainfo.classes and left out',
            'current',
            logging.WARNING,
        )
    numbers = {name: number for number, name in enumerate(classes)}
    pairs = [
        (os.path.join(place, file), numbers[name])
        for name in sorted(numbers)
        for place, _, files in sorted(walk(folder / name))
        for file in sorted(files)
        if file.lower().endswith(IMG_EXTENSIONS)
    ]
    counts = Counter(number for _, number in pairs)
    for name, number in numbers.items():
        if not counts[number]:
            raise InputError(
                f'{folder.absolute() / name}: no image in this class folder (wanted are '
                f'{" ".join(IMG_EXTENSIONS)}): fill it, or leave it out by metainfo.classes'
            )
    names = [os.path.relpath(path, folder) for path, _ in pairs]
    return names, [number for _, number in pairs], tuple(classes)
