"""Loading of images that may be corrupt: name the file, or skip it and keep count."""

import hashlib
import logging
from typing import Any

import cv2
import mmcv
import numpy as np
import torch
from mmcv.transforms import LoadImageFromFile
from mmdet.registry import TRANSFORMS
from mmengine import fileio
from mmengine.dist import is_main_process
from mmengine.logging import print_log

from ..errors import InputError, MissingFileError
from ..files import check_header, check_regular
from ..readers.files import is_whole

SLOTS = 1 << 14  # files that are remembered as skipped: 128 KiB of shared memory
SKIP_OPTION = '--cfg-options train_dataloader.dataset.pipeline.0.on_error=skip'


@TRANSFORMS.register_module()
class LoadImage(LoadImageFromFile):
    """Load an image as mmcv's ``LoadImageFromFile`` does, and be clear about one that is corrupt.

    Corrupt is a file that is missing, is no image, or is truncated: OpenCV 4 decodes the upper
    part of a truncated JPEG and fills the rest with grey, on which boxes would then be learnt.

    ``on_error='skip'`` is for training pipelines, where the dataset takes another sample instead.
    A dataset in test mode cannot do without an image: mmengine raises there.

    Args:
        *args: As of ``LoadImageFromFile``.
        on_error: ``'raise'`` an `InputError` that names the file, or ``'skip'`` it: return None,
            and warn once for each file with the number of files skipped so far on this process
            (each process of a distributed training counts those of its own workers).
        **kwargs: As of ``LoadImageFromFile``.

    Raises:
        InputError: ``on_error`` is something else.
    """

    def __init__(self, *args: Any, on_error: str = 'raise', **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if on_error not in ('raise', 'skip'):
            raise InputError(f"LoadImage: on_error is {on_error!r}; it must be 'raise' or 'skip'")
        self.on_error = on_error
        self._skipped = SharedNames(SLOTS)

    @property
    def num_skipped(self) -> int:
        """Number of different files skipped so far, by this process and its workers together."""
        return len(self._skipped)

    def transform(self, results: dict) -> dict | None:
        """Load ``results['img_path']`` into ``img``, and set ``img_shape`` and ``ori_shape``.

        Args:
            results: A sample with the key ``img_path``.

        Returns:
            The sample with ``img`` ``(H, W, C)`` (``(H, W)`` for ``color_type='grayscale'``), or
            None for a corrupt file where these are skipped.

        Raises:
            MissingFileError: The file does not exist and ``on_error`` is ``'raise'``.
            InputError: The file is corrupt and ``on_error`` is ``'raise'``.
        """
        path = results['img_path']
        try:
            img = self._decode(path, self._read(path))
        except InputError as error:
            if self.ignore_empty:  # mmcv's own switch: not a word
                return None
            if self.on_error == 'raise':
                raise type(error)(
                    f"{error}; set on_error='skip' in the LoadImage of the training pipeline "
                    f'(for a plain dataset: {SKIP_OPTION}), or fix the image'
                ) from error.__cause__
            self._warn(path, error)
            return None
        if self.to_float32:
            img = img.astype(np.float32)
        results['img'] = img
        results['img_shape'] = img.shape[:2]
        results['ori_shape'] = img.shape[:2]
        return results

    def _read(self, path: str) -> bytes:
        check_regular(path)
        try:
            if self.file_client_args is not None:
                client = fileio.FileClient.infer_client(self.file_client_args, path)
                return client.get(path)
            return fileio.get(path, backend_args=self.backend_args)
        except FileNotFoundError as error:
            raise MissingFileError(f'{path}: the image does not exist') from error
        except OSError as error:
            raise InputError(f'{path}: the image cannot be read ({error})') from error

    def _decode(self, path: str, data: bytes) -> np.ndarray:
        if not data:
            raise InputError(f'{path}: the image is an empty file')
        if not is_whole(data):
            raise InputError(f'{path}: the image is truncated ({len(data)} bytes)')
        check_header(data, path)
        try:
            img = mmcv.imfrombytes(data, flag=self.color_type, backend=self.imdecode_backend)
        except (cv2.error, OSError, ValueError, SyntaxError) as error:
            reason = str(error).strip().replace('\n', ' ')
            raise InputError(f'{path}: the image does not decode ({reason})') from error
        if img is None:
            raise InputError(f'{path}: not an image that can be decoded ({len(data)} bytes)')
        return img

    def _warn(self, path: str, error: InputError) -> None:
        if self._skipped.add(path):
            number = self.num_skipped
            files = f'{number} file{"s" * (number > 1)} skipped so far on this process'
            # Beyond the first process mmengine's loggers pass nothing below an error.
            level = logging.WARNING if is_main_process() else logging.ERROR
            print_log(f'skipped {error}; {files}', logger='current', level=level)

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, on_error='{self.on_error}')"


class SharedNames:
    """A set of names in shared memory, for the workers of a data loader (forked or spawned).

    Only hashes are kept, in a table with open addressing, and nothing is locked: two workers that
    write one slot at the same moment lose one name, which is then added at its next turn.

    A copy has a table of its own, shared in the same way.

    Args:
        slots: Most names that are held, from 1; further ones count as known.
    """

    def __init__(self, slots: int) -> None:
        self._table = torch.zeros(slots, dtype=torch.int64).share_memory_()

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._table.share_memory_()  # a copy has a table of its own, which is no longer shared

    def add(self, name: str) -> bool:
        """Add a name; True where it is new."""
        digest = hashlib.blake2b(name.encode('utf-8', 'surrogateescape'), digest_size=8).digest()
        key = int.from_bytes(digest, 'little', signed=True) or 1  # 0 marks a free slot
        slots = len(self._table)
        for step in range(slots):
            slot = (key + step) % slots
            found = int(self._table[slot])
            if found == key:
                return False
            if found == 0:
                self._table[slot] = key
                return True
        return False

    def __len__(self) -> int:
        return int(self._table.count_nonzero())
