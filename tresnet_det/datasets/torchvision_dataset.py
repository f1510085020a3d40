"""torchvision's own classification datasets, by name."""

import inspect
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet.registry import DATASETS
from mmengine.dist import barrier, is_distributed

from ..errors import InputError, MissingFileError, few
from ..readers.config import resolve_classes
from ..readers.findings import suggest
from .classification import LabelledImages
from .decode import decode_rgb, to_tensor
from .pipeline import TEST_PIPELINE, TRAIN_PIPELINE

# What torchvision does not download, and so must be placed below data_root by hand.
PLACED = {
    'FER2013': 'fer2013/ with fer2013.csv',
    'ImageFolder': 'a folder of images for each class',
    'ImageNet': 'ILSVRC2012_devkit_t12.tar.gz, ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar',
    'StanfordCars': (
        'stanford_cars/ with devkit/, cars_train/, cars_test/ and cars_test_annos_withlabels.mat'
    ),
}
# Names under which torchvision's classes keep one entry an image, as there is no common one: the
# file, or the file and the label; and the label.
_FILES = ('_image_files', 'samples', '_samples', 'imgs', '_images', 'data')
_LABELS = ('targets', 'labels', '_labels', 'y')
_PAIRS = ('samples', '_samples')
_LOST = re.compile('not found|not present|does not exist|corrupted')
# The pipeline's work, and what data_root is for.
_OURS = ('self', 'root', 'transform', 'target_transform', 'transforms')


@DATASETS.register_module()
class TorchvisionDataset(LabelledImages):
    """A dataset of ``torchvision.datasets`` whose samples are an image and a class number.

    CIFAR10, CIFAR100, StanfordCars, Flowers102, Food101, OxfordIIITPet, FGVCAircraft, MNIST and
    others. Greyscale images are repeated to RGB. Where torchvision lets one choose what reads the
    files, :func:`decode_rgb` does, so that they come as from ``ImageFolderDataset``, EXIF included.

    In a training of several processes with ``download=True``, one on each machine downloads and the
    others wait for it.

    Args:
        name: Of the class in ``torchvision.datasets``.
        data_root: Its ``root``.
        pipeline: Transforms by config, see :func:`build_transforms`. None for the recipe of
            training (crop of random size to 224, flip, RandAugment), or of testing with
            ``test_mode`` (256, and the 224 in the centre).
        test_mode: Which of the two.
        metainfo: ``dict(classes=...)`` renames the classes, in the order of the labels; a tuple or
            a text file with a name on each line. Without it the names are torchvision's, or the
            numbers up to the highest label where it has none.
        **kwargs: The class's other arguments: ``train=True``, ``split='train'``,
            ``download=True``, ...

    Attributes:
        gt_labels: Class numbers, ``(N,)`` of int64; None where they cannot be had without reading
            every image.

    Raises:
        MissingFileError: The data is not below ``data_root``, or not whole.
        InputError: There is no such class, it does not take an argument, a package that it needs
            is not installed, its samples are no image with a number, or ``metainfo.classes`` does
            not fit the labels.
    """

    def __init__(
        self,
        name: str,
        data_root: str = '',
        pipeline: Sequence[Mapping] | None = None,
        test_mode: bool = False,
        metainfo: Mapping | None = None,
        **kwargs: Any,
    ) -> None:
        self._name = name
        self._source = _build(name, data_root, kwargs)
        if not len(self._source):
            raise InputError(f"torchvision's {name}: no image in {Path(data_root).absolute()}")
        self._files = _find_files(self._source)
        self.gt_labels = _find_labels(self._source)
        own = _find_classes(self._source)
        ends = (0, len(self._source) - 1)
        read = [self.read(index)[1] for index in ends]
        if self.gt_labels is not None and [self.gt_labels[index] for index in ends] != read:
            # OxfordIIITPet's target_types='binary-category': the lists are of another target.
            self.gt_labels = own = None
        classes = _name_classes(name, self.gt_labels, own, resolve_classes(metainfo))
        if pipeline is None:
            pipeline = TEST_PIPELINE if test_mode else TRAIN_PIPELINE
        super().__init__(classes, pipeline)

    def __len__(self) -> int:
        return len(self._source)

    def img_path(self, index: int) -> str:
        """Return the file of an image, or the like of ``CIFAR10[12]`` where it has none."""
        if self._files is None:
            return f'{self._name}[{index}]'
        entry = self._files[index]
        return os.fspath(entry[0] if isinstance(entry, tuple) else entry)

    def read(self, index: int) -> tuple[torch.Tensor, int]:
        from PIL import Image

        try:
            sample = self._source[index]
        except InputError:
            raise
        except OSError as error:  # of a class that reads by itself, with Pillow
            raise InputError(
                f'{self.img_path(index)}: the image cannot be read ({_line(error)}): '
                'replace or remove it'
            ) from error
        image, label = sample if isinstance(sample, tuple) and len(sample) == 2 else (sample, None)
        if not isinstance(image, (Image.Image, torch.Tensor)) or not isinstance(
            label, (int, np.integer)
        ):
            raise InputError(
                f"torchvision's {self._name} gives no image with a class number: "
                'take one of its datasets for classification, such as CIFAR10'
            )
        if isinstance(image, Image.Image):
            image = to_tensor(image.convert('RGB'))
        return image, int(label)


def _build(name: str, data_root: str, kwargs: Mapping) -> Any:
    """Return torchvision's dataset, with its errors as one line of ours."""
    from torchvision import datasets

    known = {
        key: value
        for key, value in vars(datasets).items()
        if inspect.isclass(value) and issubclass(value, datasets.VisionDataset)
    }
    known.pop('VisionDataset')  # their base
    if name not in known:
        raise InputError(f'torchvision.datasets has no {name!r}: {suggest(name, list(known))}')
    if name.startswith('LSUN'):
        raise InputError(
            f"torchvision's {name} runs what a file _cache_... next to it says (a pickle): "
            'put the images into class folders'
        )
    kind, parameters = known[name], _parameters(known[name])
    takes = [key for key in parameters if key not in _OURS]
    others = [key for key in kwargs if key not in takes]
    if others:
        raise InputError(
            f"torchvision's {name} does not take {others[0]!r} here: it takes {', '.join(takes)}"
        )
    arguments = dict(kwargs)
    download = bool(arguments.get('download'))
    if 'root' in parameters:
        arguments['root'] = data_root or '.'
    if 'loader' in takes:
        arguments.setdefault('loader', decode_rgb)
    # All processes of a machine share its disk: the first downloads, then the others look.
    first = not is_distributed() or os.environ.get('LOCAL_RANK', '0') == '0'
    if download and not first:
        barrier()
    try:
        return kind(**arguments)
    except ImportError as error:
        raise InputError(f"torchvision's {name} needs a package: {_line(error)}") from error
    except (RuntimeError, OSError) as error:
        raise _explain(name, Path(data_root), download, 'download' in takes, error) from error
    except (TypeError, ValueError) as error:
        raise InputError(
            f"torchvision's {name}: {_line(error)}; it takes {', '.join(takes)}"
        ) from error
    finally:
        if download and first:
            barrier()


def _parameters(kind: type) -> list[str]:
    """Return what a class takes, with what it hands on to its bases by ``**kwargs``."""
    names = []
    for base in kind.__mro__:
        if '__init__' in vars(base):
            parameters = inspect.signature(vars(base)['__init__']).parameters.values()
            names += [entry.name for entry in parameters if entry.kind != entry.VAR_KEYWORD]
            if all(entry.kind != entry.VAR_KEYWORD for entry in parameters):
                break
    return list(dict.fromkeys(names))


def _explain(
    name: str, folder: Path, download: bool, can_download: bool, error: Exception
) -> InputError:
    """Say in one line why a dataset could not be built, and what to do."""
    reason, folder = _line(error), folder.absolute()
    if 'pip install' in reason:
        return InputError(f"torchvision's {name} needs a package: {reason}")
    if download:
        return InputError(
            f"the download of torchvision's {name} to {folder} failed ({reason}): "
            'try again, or place its files there'
        )
    if not isinstance(error, (FileNotFoundError, NotADirectoryError)) and not (
        isinstance(error, RuntimeError) and _LOST.search(reason)
    ):
        return InputError(f"torchvision's {name}: {reason}")
    where = f"torchvision's {name} is not in {folder}, or not whole"
    if 'download=True' not in reason:
        where += f' ({reason})'
    if can_download and name not in PLACED:
        return MissingFileError(f"{where}: set data_root, or download=True in the dataset's config")
    what = PLACED.get(name, f'what the documentation of torchvision.datasets.{name} says')
    return MissingFileError(f'{where}: set data_root, or place there {what}')


def _find_files(source: Any) -> Sequence | None:
    for key in _FILES:
        entries = getattr(source, key, None)
        if entries is not None and len(entries) == len(source):
            first = entries[0][0] if isinstance(entries[0], tuple) else entries[0]
            if isinstance(first, (str, os.PathLike)):
                return entries
    return None


def _find_labels(source: Any) -> np.ndarray | None:
    for key in _LABELS + _PAIRS:
        values = getattr(source, key, None)
        if values is None:
            continue
        labels = np.asarray([pair[1] for pair in values] if key in _PAIRS else values)
        if labels.shape == (len(source),) and labels.dtype.kind in 'iu':
            return labels.astype(np.int64)
    return None


def _find_classes(source: Any) -> tuple[str, ...] | None:
    names = getattr(source, 'classes', None) or getattr(source, 'categories', None)
    if not names:
        numbers: dict[str, int] = getattr(source, 'class_to_idx', {})
        names = sorted(numbers, key=numbers.__getitem__)
    # ImageNet's names are tuples of synonyms.
    return tuple(n if isinstance(n, str) else ', '.join(n) for n in names) or None


def _name_classes(
    name: str,
    labels: np.ndarray | None,
    own: tuple[str, ...] | None,
    given: tuple[str, ...] | None,
) -> tuple[str, ...]:
    """Choose the names of the classes, and hold them against the labels."""
    if own and given and (len(own) != len(given) or (set(own) == set(given) and own != given)):
        raise InputError(
            f"metainfo.classes can only rename the {len(own)} classes of torchvision's {name}, in "
            f'their order ({few(own)}): got {few(given)}'
        )
    classes = given or own
    if classes is None:
        if labels is None:
            raise InputError(
                f"torchvision's {name} does not name these classes: set "
                'metainfo=dict(classes=(...))'
            )
        classes = tuple(str(number) for number in range(labels.max() + 1))
    if labels is not None and not 0 <= labels.min() <= labels.max() < len(classes):
        raise InputError(
            f"torchvision's {name} has labels from {labels.min()} to {labels.max()} here, and "
            f'{len(classes)} classes: labels must go from 0, with a name in metainfo.classes each'
        )
    return classes


def _line(error: Exception) -> str:
    return ' '.join(str(error).split())
