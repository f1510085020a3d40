"""Run a file of tools/export.py without PyTorch, from image to boxes or scores.

    python onnx_runner.py FILE.onnx INPUT [INPUT ...]

An input is an image, a folder, a video or the number of a camera. This file stands by itself: copy
it. It needs numpy, onnxruntime or OpenVINO, and OpenCV or Pillow for a detector, Pillow for a
classifier, OpenCV for videos; neither PyTorch nor MMDetection nor the rest of this package, which
``import tresnet_det.inference.onnx_runner`` would bring along.

What is done to an image is in the file's metadata, and is what the config's test pipeline does: a
detector's images are the same to the bit with OpenCV. Without it, Pillow reads and numpy resizes
them, and they differ by one of 255 here and there. So do a classifier's images, which Pillow
resizes here and torchvision there (by up to three with bicubic interpolation).
"""

import argparse
import csv
import io
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from os import PathLike
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO
from xml.sax.saxutils import quoteattr

import numpy as np

InputImage = str | PathLike | np.ndarray
Answer = dict[str, np.ndarray]
Window = tuple[int, int, int, int]
Run = Callable[[Mapping[str, np.ndarray]], Sequence[np.ndarray]]

SUPPORTED_FORMAT = 1  # of the metadata
INPUTS = {'images', 'sizes', 'original_sizes'}
OUTPUTS: dict[str, set[str]] = dict(
    detector={'boxes', 'scores', 'labels', 'num'}, classifier={'logits', 'scores'}, backbone=set()
)
STOPS = {signal.SIGTERM: 'told to end (SIGTERM)'}
if hasattr(signal, 'SIGHUP'):  # not on Windows
    STOPS[signal.SIGHUP] = 'its terminal is gone (SIGHUP)'
SCORE_THR = 0.3  # of a file without a threshold of its own
LARGEST_DIVISOR = 1024
SMALLEST_TILE = 32  # pixels; there would be a million of smaller ones
IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.ppm', '.pgm', '.tif', '.tiff', '.webp')
VIDEO_SUFFIXES = ('.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v', '.mpg', '.mpeg', '.wmv')
# What ends a line in some readers of text, and what XML cannot have.
_NO_LINE = re.compile('[\0-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]')
# An image may have MAX_PIXELS, or what this variable of the environment says, as in the package's
# tools. OpenCV, where there is no Pillow to read headers, looks at its own when it is imported.
MAX_PIXELS, VARIABLE = 200_000_000, 'TRESNET_DET_MAX_PIXELS'
os.environ.setdefault('OPENCV_IO_MAX_IMAGE_PIXELS', os.environ.get(VARIABLE) or str(MAX_PIXELS))


class OnnxModel:
    """An exported detector, classifier or backbone.

    Args:
        path: The ``.onnx`` file.
        threads: Of the CPU; None for onnxruntime's own choice.
        providers: Of onnxruntime; None for CUDA where it is available, and the CPU.
        engine: ``'onnxruntime'`` or ``'openvino'``.

    Attributes:
        task: ``'detector'``, ``'classifier'`` or ``'backbone'``.
        classes: Names by class number, or None where they are not known.
        score_thr: The file's own operating threshold, else 0.3; one number, or one by class.
        metadata: All that the file says of itself; text where it is no JSON.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The engine is not installed or cannot read the file, or it is not of
            tools/export.py.

    Examples:
        model = OnnxModel('fcos.onnx')
        found = model.predict('street.jpg')
        for box, score, label in zip(found['boxes'], found['scores'], found['labels']):
            print(model.classes[label], score, box)
    """

    def __init__(
        self,
        path: str | PathLike,
        threads: int | None = None,
        providers: Sequence[str] | None = None,
        engine: str = 'onnxruntime',
    ) -> None:
        if not Path(path).is_file():
            raise FileNotFoundError(f'{path}: no such file')
        self._path = path
        try:
            if engine == 'openvino':
                self._run, self._inputs, self._outputs = _start_openvino(path, threads)
            else:
                self._run, self._inputs, self._outputs = _start_onnxruntime(
                    path, threads, providers
                )
        except ImportError as error:
            raise ValueError(f'{engine} is not installed: pip install {engine}') from error
        except Exception as error:  # they have types for every kind of corrupt file
            reason = ' '.join(str(error).split())
            raise ValueError(f'{path}: {engine} cannot read it ({reason})') from error
        self.metadata = read_metadata(path)
        if fault := _find_fault(self.metadata):
            raise ValueError(f'{path}: not written by this version of tools/export.py ({fault})')
        self.task = self.metadata['task']
        if not OUTPUTS[self.task] <= {*self._outputs}:
            raise ValueError(f'{path}: no {self.task}, its outputs are {", ".join(self._outputs)}')
        if not {*self._inputs} <= INPUTS:
            raise ValueError(f'{path}: no {self.task}, its inputs are {", ".join(self._inputs)}')
        self.classes = self.metadata['classes']
        self.score_thr = np.array(self.metadata.get('threshold', SCORE_THR), np.float32)

    def predict(self, image: InputImage) -> Answer:
        """Return what is in an image, a file or ``(H, W, 3)`` of uint8 in RGB: see :meth:`run`."""
        return self.predict_all([image])[0]

    def predict_all(self, images: Sequence[InputImage]) -> list[Answer]:
        """Return what is in each image, all in one batch: see :meth:`run`."""
        return self.run(self.prepare(images)) if len(images) else []

    def predict_sliced(
        self, image: InputImage, tile: int, overlap: float = 0.2, batch_size: int = 8
    ) -> Answer:
        """Return a detector's boxes in a large image: of its tiles, and of the image as a whole.

        Args:
            image: As for :meth:`predict`; no larger than a tile, it is predicted as there.
            tile: See :func:`tile_windows`.
            overlap: Likewise.
            batch_size: Tiles at once.

        Raises:
            ValueError: The model is no detector, or as for :meth:`prepare`.
        """
        if self.task != 'detector':
            raise ValueError('slices are for detectors')
        pixels = image if isinstance(image, np.ndarray) else self.read(image)
        iou_thr, whole = self.metadata['iou_threshold'], self.predict(pixels)
        return predict_tiles(pixels, whole, self.predict_all, tile, overlap, iou_thr, batch_size)

    def read(self, path: str | PathLike) -> np.ndarray:
        """Return an image file as the model's images are read: see :func:`read_rgb`."""
        return read_rgb(path, prefer_opencv=self.metadata['reader'] == 'opencv')

    def prepare(self, images: Sequence[InputImage]) -> dict[str, np.ndarray]:
        """Read, resize and put together what :meth:`run` takes.

        Args:
            images: As for :meth:`predict`, one at least.

        Raises:
            FileNotFoundError: A file does not exist.
            ValueError: An image cannot be read or is no RGB array, or the model's file does not
                say what to do to images.
        """
        steps = self.metadata['steps']
        if steps is None:
            raise ValueError(
                'the file does not say how to prepare images '
                f'({self.metadata.get("why_no_steps")}): prepare them as the config does and call '
                'collate'
            )
        resized, original_sizes = [], []
        for image in images:
            if not isinstance(image, np.ndarray):
                image = self.read(image)
            elif image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise ValueError(
                    f'an image must be (H, W, 3) of uint8 in RGB, got {image.dtype} {image.shape}'
                )
            original_sizes.append(image.shape[:2])
            for step in steps:
                image = apply_step(image, step)
            resized.append(image)
        return self.collate(resized, original_sizes)

    def collate(
        self, images: Sequence[np.ndarray], original_sizes: Sequence[Sequence[int]]
    ) -> dict[str, np.ndarray]:
        """Return the network's inputs.

        Args:
            images: Resized images, each ``(H, W, 3)`` of uint8 in RGB.
            original_sizes: Height and width of each before that.
        """
        sizes = np.array([image.shape[:2] for image in images], np.int64)  # (N, 2)
        divisor = self.metadata['divisor']
        height, width = -(-sizes.max(0) // divisor) * divisor
        batch = np.empty((len(images), 3, height, width), np.float32)
        batch[:] = np.array(self.metadata['border'], np.float32)[:, None, None]
        for place, image in zip(batch, images, strict=True):
            place[:, : image.shape[0], : image.shape[1]] = image.transpose(2, 0, 1)
        inputs = {
            'images': batch,
            'sizes': sizes,
            'original_sizes': np.array(original_sizes, np.int64),
        }
        return {name: inputs[name] for name in self._inputs}

    def run(self, inputs: Mapping[str, np.ndarray]) -> list[Answer]:
        """Return the answers to a batch, one an image.

        Args:
            inputs: As :meth:`prepare` returns them.

        Returns:
            Of a detector ``boxes``, ``(n, 4)``, each ``(x1, y1, x2, y2)`` in the original image's
            pixels, ``scores`` and ``labels``, ``(n,)``, by descending score; of a classifier
            ``logits`` and ``scores``, ``(classes,)``; of a backbone ``stride_4``, ..., feature
            maps ``(C, h, w)``.
        """
        try:
            values = self._run(inputs)
        except Exception as error:  # they have types of their own for what a network cannot take
            reason = ' '.join(str(error).split())
            shape = inputs['images'].shape
            raise ValueError(f'{self._path}: fails on images {shape} ({reason})') from error
        outputs = dict(zip(self._outputs, values, strict=True))
        self._check(outputs, len(inputs['images']))
        if self.task != 'detector':
            count = len(inputs['images'])
            return [{name: value[i] for name, value in outputs.items()} for i in range(count)]
        counts = outputs.pop('num')
        return [
            {name: value[i, :count] for name, value in outputs.items()}
            for i, count in enumerate(counts)
        ]

    def _check(self, outputs: Answer, count: int) -> None:
        """Raise a ValueError where outputs are none of the task, on so many images."""
        columns = 0
        shapes: dict[str, tuple[int, ...]] = {}
        if self.task != 'backbone':
            columns = outputs['scores'].size // count
            shapes |= dict.fromkeys(outputs, (count, columns))
            shapes |= dict(boxes=(count, columns, 4), num=(count,))
        for name, value in outputs.items():
            right = value.shape == shapes.get(name, (count, *value.shape[1:]))
            if not right or name in ('labels', 'num') and value.dtype != np.int64:
                raise ValueError(
                    f'{self._path}: no {self.task}, its {name} are {value.dtype} {value.shape}'
                )
        if self.task == 'detector':
            used = np.arange(columns) < outputs['num'][:, None]  # the other labels are -1
            labels = outputs['labels'][used]
            if labels.min(initial=0) < 0:
                raise ValueError(f'{self._path}: no detector, it finds the class {labels.min()}')
            columns = labels.max(initial=-1) + 1
        if self.classes and columns > len(self.classes):
            raise ValueError(
                f'{self._path}: has {columns} classes or more, and names of {len(self.classes)}'
            )


def _start_onnxruntime(
    path: str | PathLike, threads: int | None, providers: Sequence[str] | None
) -> tuple[Run, list[str], list[str]]:
    """Return what runs a file, and the names of its inputs and outputs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads = threads
    if providers is None:
        known = onnxruntime.get_available_providers()
        providers = [p for p in ('CUDAExecutionProvider', 'CPUExecutionProvider') if p in known]
    session = onnxruntime.InferenceSession(str(path), options, providers)
    ends = session.get_inputs(), session.get_outputs()
    inputs, outputs = ([entry.name for entry in part] for part in ends)
    return lambda values: session.run(None, dict(values)), inputs, outputs


def _start_openvino(path: str | PathLike, threads: int | None) -> tuple[Run, list[str], list[str]]:
    import openvino

    settings = {'INFERENCE_PRECISION_HINT': 'f32'}  # of what is not int8, on every CPU alike
    if threads is not None:
        settings['INFERENCE_NUM_THREADS'] = str(threads)
    model = openvino.Core().compile_model(str(path), 'CPU', settings)
    inputs, outputs = ([e.any_name for e in part] for part in (model.inputs, model.outputs))
    return lambda values: list(model(dict(values)).values()), inputs, outputs


def read_metadata(path: str | PathLike) -> dict[str, Any]:
    """Return what an ONNX file says of itself; entries of other tools, as no JSON, as they are."""
    found: dict[str, Any] = {}
    with open(path, 'rb') as file:
        # metadata_props of ModelProto: pairs of a key and a value.
        for entry in _read_fields(file, 14):
            key, value = (
                b''.join(_read_fields(io.BytesIO(entry), field)).decode(errors='replace')
                for field in (1, 2)
            )
            try:
                found[key] = json.loads(value)
            except (ValueError, RecursionError):
                found[key] = value
    return found


def _read_fields(file: BinaryIO, wanted: int) -> Iterator[bytes]:
    """Yield the contents of one field of a message of protobuf, and seek over the others."""
    while (tag := _read_varint(file)) is not None:
        size = {1: 8, 5: 4}.get(tag & 7)  # of numbers of a fixed length
        if size is None:
            size = _read_varint(file) or 0
            if tag & 7 == 0:  # it was the number itself
                continue
        if tag >> 3 == wanted:
            yield file.read(size)
        else:
            file.seek(size, os.SEEK_CUR)


def _read_varint(file: BinaryIO) -> int | None:
    value, shift = 0, 0
    while byte := file.read(1):
        value |= (byte[0] & 127) << shift
        shift += 7
        if byte[0] < 128:
            return value
    return None


def _find_fault(metadata: Mapping[str, Any]) -> str | None:
    """Return what of the metadata this runner cannot work with, None where it can."""
    version, divisor = metadata.get('format'), metadata.get('divisor')
    classes, border = metadata.get('classes'), metadata.get('border')
    names = classes if isinstance(classes, list) else []
    threshold, steps = metadata.get('threshold', SCORE_THR), metadata.get('steps')
    each = threshold if isinstance(threshold, list) else [threshold]
    iou: Any = metadata.get('iou_threshold')
    is_right = {
        'format': _is_size(version, SUPPORTED_FORMAT),
        'task': metadata.get('task') in [*OUTPUTS],
        'classes': classes is None or names and all(isinstance(name, str) for name in names),
        'divisor': _is_size(divisor, LARGEST_DIVISOR),
        'border': isinstance(border, list) and len(border) == 3 and all(map(_is_number, border)),
        'threshold': all(_is_number(v) and 0 <= v <= 1 for v in each)
        and (each is not threshold or len(each) == len(names)),
        'reader': metadata.get('reader') in ('opencv', 'pillow'),
        'iou_threshold': metadata.get('task') != 'detector' or _is_number(iou) and 0 <= iou <= 1,
        'steps': steps is None or isinstance(steps, list) and all(map(_is_step, steps)),
    }
    needed = {*is_right} - {'threshold', 'iou_threshold'}
    wrong = next(
        (k for k, right in is_right.items() if not right or k in needed - {*metadata}), None
    )
    return wrong and f'its {wrong}: {metadata.get(wrong)!r:.80}'


def _is_step(step: Any) -> bool:
    kind = step.get('type') if isinstance(step, dict) else None
    if kind not in ('fit', 'short_side', 'stretch', 'center_crop'):
        return False
    sides = step.get('scale' if kind == 'fit' else 'size')
    sides = [sides, sides] if kind == 'short_side' else sides
    is_pair = isinstance(sides, list) and len(sides) == 2 and all(map(_is_size, sides))
    resampling = 'opencv' if kind == 'center_crop' else step.get('resampling')
    known = resampling in ('opencv', 'bilinear', 'bicubic')
    return known and is_pair and sides[0] * sides[1] <= max(_most_pixels(), MAX_PIXELS)


def _is_size(value: Any, largest: float = float('inf')) -> bool:
    return type(value) is int and 0 < value <= largest


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e9


def read_rgb(path: str | PathLike, prefer_opencv: bool) -> np.ndarray:
    """Return an image file as ``(H, W, 3)`` of uint8 in RGB, turned as its EXIF header says.

    Args:
        path: The file.
        prefer_opencv: Whether OpenCV decodes where it is installed; otherwise it is Pillow.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: It cannot be decoded, or has too many pixels.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'{path}: no such image')
    data = Path(path).read_bytes()
    _check_header(data, path)
    cv2 = _opencv() if prefer_opencv else None
    if cv2 is not None:
        try:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        except cv2.error:  # of an empty file, or one beyond OpenCV's own limit
            image = None
        if image is None:
            raise ValueError(f'{path}: not an image that can be decoded')
        return np.ascontiguousarray(image[..., ::-1])
    from PIL import ImageOps

    try:
        with _open(data) as stored:
            image = ImageOps.exif_transpose(stored)
            mode = image.mode
            # Older Pillow calls 16 bits of these formats I, too.
            deep = mode.startswith('I;16') or (mode == 'I' and stored.format in ('PNG', 'PPM'))
            pixels = np.array(image if deep or mode == 'RGB' else image.convert('RGB'))
    except Exception as error:  # Pillow's decoders raise almost anything on a corrupt file
        raise ValueError(f'{path}: not an image that can be decoded') from error
    if mode in ('I', 'F') and not deep:
        raise ValueError(f'{path}: 32 bits a channel, of an unknown range: save it with 8 or 16')
    if deep:  # of which Pillow would make all above 255 white
        return np.repeat((pixels >> 8).astype(np.uint8)[..., None], 3, 2)
    return pixels


def _most_pixels() -> int:
    """Return how many pixels an image may have; a ValueError says where that is no number."""
    text = os.environ.get(VARIABLE) or str(MAX_PIXELS)
    if not text.isdecimal() or not int(text):
        raise ValueError(f'{VARIABLE} is {text!r}: give a whole number of pixels above 0')
    return int(text)


def _check_header(data: bytes, path: str | PathLike) -> None:
    """Raise a ValueError where an image claims too many pixels, before memory is given to them."""
    try:
        width, height = _open(data).size
    except Exception:  # no Pillow; or no image, as the decoder will say
        return
    limit = _most_pixels()
    if width * height > limit:
        raise ValueError(
            f'{path}: the image is too large ({width} x {height}, more than {limit} pixels): '
            f'reduce it, or set the environment variable {VARIABLE}'
        )


def _open(data: bytes) -> Any:
    """Return Pillow's image of a file's bytes, not yet decoded, whatever Pillow's own limit is."""
    from PIL import Image

    theirs, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        return Image.open(io.BytesIO(data))
    finally:
        Image.MAX_IMAGE_PIXELS = theirs


def _opencv() -> ModuleType | None:
    try:
        import cv2
    except ImportError:
        return None
    return cv2


def resize(image: np.ndarray, height: int, width: int, resampling: str) -> np.ndarray:
    """Return a resized image, ``(height, width, 3)`` of uint8.

    Args:
        image: ``(H, W, 3)`` of uint8.
        height: Of the result.
        width: Of the result.
        resampling: ``'opencv'`` for its bilinear interpolation, which looks at the nearest pixels
            only; ``'bilinear'`` or ``'bicubic'`` for Pillow's, which average while they shrink.
    """
    if image.shape[:2] == (height, width):
        return image
    if resampling != 'opencv':
        from PIL import Image

        method = {'bilinear': Image.Resampling.BILINEAR, 'bicubic': Image.Resampling.BICUBIC}
        return np.array(Image.fromarray(image).resize((width, height), method[resampling]))
    cv2 = _opencv()
    if cv2 is not None:
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return resize_bilinear(image, height, width)


def resize_bilinear(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize as OpenCV does, by numpy: within one of 255.

    Args:
        image: ``(H, W, 3)`` of uint8.
        height: Of the result.
        width: Of the result.
    """
    top, bottom, down = _neighbours(image.shape[0], height)
    left, right, along = _neighbours(image.shape[1], width)
    rows = image[top] * (1 - down[:, None, None]) + image[bottom] * down[:, None, None]
    result = rows[:, left] * (1 - along[:, None]) + rows[:, right] * along[:, None]
    return np.rint(result).astype(np.uint8)


def _neighbours(old: int, new: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the pixels before and after each new pixel's centre, and the share of the latter."""
    centres = np.clip((np.arange(new) + 0.5) * (old / new) - 0.5, 0, old - 1)
    before = centres.astype(np.int64)
    return before, np.minimum(before + 1, old - 1), (centres - before).astype(np.float32)


def apply_step(image: np.ndarray, step: Mapping) -> np.ndarray:
    """Return an image, ``(H, W, 3)`` of uint8, after a step of the metadata.

    ``fit`` resizes to the largest size, in proportion, within a long and a short side;
    ``short_side`` in proportion until the short side has that many pixels; ``stretch`` to a height
    and a width; ``center_crop`` cuts those out.

    Raises:
        ValueError: The image is too small for its crop.
    """
    kind, (height, width) = step['type'], image.shape[:2]
    if kind == 'center_crop':
        new_height, new_width = step['size']
        if new_height > height or new_width > width:
            raise ValueError(f'an image of {height}x{width} is too small for {step["size"]}')
        top, left = (int(round((a - b) / 2)) for a, b in ((height, new_height), (width, new_width)))
        return image[top : top + new_height, left : left + new_width]
    if kind == 'fit':
        short, long = sorted(step['scale'])
        factor = min(long / max(height, width), short / min(height, width))
        size = int(height * factor + 0.5), int(width * factor + 0.5)
        if min(size) == 0:
            raise ValueError(f'an image of {width}x{height} is too narrow: crop it')
    elif kind == 'short_side':
        long = int(step['size'] * max(height, width) / min(height, width))
        if step['size'] * long > _most_pixels():
            raise ValueError(
                f'an image of {width}x{height} is too narrow: its longer side becomes {long} '
                f'pixels; crop it, or set the environment variable {VARIABLE}'
            )
        size = (step['size'], long) if height <= width else (long, step['size'])
    else:
        size = step['size']
    return resize(image, *size, step['resampling'])


def tile_windows(height: int, width: int, tile: int, overlap: float) -> list[Window]:
    """Return where the tiles of an image are, ``(x1, y1, x2, y2)`` each, in pixels.

    A side of ``n`` pixels has ``ceil((n - tile) / step) + 1`` tiles, of ``step = tile - int(tile *
    overlap)``, and one where it is no longer than a tile; the last one ends with the image.

    Args:
        height: Of the image.
        width: Of the image.
        tile: Side of a tile in pixels, from 1.
        overlap: Share of a tile that the next one has too, from 0 up to 1.
    """
    step = max(tile - int(tile * overlap), 1)
    starts = [
        [min(start, max(side - tile, 0)) for start in range(0, max(side - tile, 0) + step, step)]
        for side in (height, width)
    ]
    corners = ((x, y) for y in starts[0] for x in starts[1])
    return [(x, y, min(x + tile, width), min(y + tile, height)) for x, y in corners]


def predict_tiles(
    pixels: np.ndarray,
    whole: Answer,
    infer: Callable[[Sequence[np.ndarray]], list[Answer]],
    tile: int,
    overlap: float,
    iou_thr: float,
    batch_size: int,
) -> Answer:
    """Return the boxes of an image and of its tiles; ``whole`` where it is no larger than a tile.

    Args:
        pixels: ``(H, W, 3)`` of uint8 in RGB.
        whole: What is found in the image as a whole.
        infer: Finds the same in several images.
        tile: See :func:`tile_windows`.
        overlap: Likewise.
        iou_thr: See :func:`merge_tiles`.
        batch_size: Tiles at once.
    """
    windows = tile_windows(pixels.shape[0], pixels.shape[1], tile, overlap)
    if len(windows) == 1:
        return whole
    crops = (pixels[y1:y2, x1:x2] for x1, y1, x2, y2 in windows)
    tiles: list[Answer] = []
    while batch := list(islice(crops, batch_size)):
        tiles += infer(batch)
    return merge_tiles(whole, tiles, windows, iou_thr)


def merge_tiles(
    whole: Answer, tiles: Sequence[Answer], windows: Sequence[Window], iou_thr: float
) -> Answer:
    """Return the boxes of an image and of its tiles as one answer, by NMS within each class.

    A box that ends at a seam, an edge of its tile within the image, may be of an object that is
    cut there. Where another tile shows that place without a seam, it is left to that tile, whatever
    the class: a part of an object may look like another one. Elsewhere such a box and one of
    another tile are of one object where they share half of the smaller one. A whole box counts
    twice its score then; of two that are cut, the box around both remains.

    Args:
        whole: Of the image as a whole: ``boxes``, ``scores`` and ``labels``.
        tiles: Of its tiles, in the tiles' pixels.
        windows: Of :func:`tile_windows`.
        iou_thr: Of NMS, in [0, 1].
    """
    places = np.array([(0, 0, *np.max(windows, 0)[2:]), *windows], np.float32)  # (T + 1, 4)
    answers = [whole, *tiles]
    origin = np.repeat(np.arange(len(answers)), [len(a['scores']) for a in answers])  # (N,)
    boxes = np.concatenate([a['boxes'] for a in answers]).astype(np.float32)  # (N, 4)
    boxes += places[origin][:, [0, 1, 0, 1]]
    scores, labels = (np.concatenate([a[name] for a in answers]) for name in ('scores', 'labels'))
    margin = 0.02 * (windows[0][2] - windows[0][0])
    inner = places != places[0]
    is_cut = ((np.abs(boxes - places[origin]) <= margin) & inner[origin]).any(1)
    left_to_others = is_cut & _is_within_a_tile(boxes, windows, margin)
    boxes, scores, labels, origin, is_cut = (
        values[~left_to_others] for values in (boxes, scores, labels, origin, is_cut)
    )
    area = (boxes[:, 2:] - boxes[:, :2]).clip(0).prod(1)
    order = np.argsort(-scores * np.where(is_cut, 0.5, 1), kind='stable')
    kept: list[int] = []
    for label in np.unique(labels):
        left = order[labels[order] == label]
        while len(left):
            best, left = left[0], left[1:]
            kept.append(best)
            low = np.maximum(boxes[best, :2], boxes[left, :2])
            shared = (np.minimum(boxes[best, 2:], boxes[left, 2:]) - low).clip(0).prod(1)
            union = (area[best] + area[left] - shared).clip(1e-9)
            part = (is_cut[best] | is_cut[left]) & (origin[best] != origin[left])
            part &= shared > 0.5 * np.minimum(area[best], area[left])
            if is_cut[best]:
                around = boxes[[best, *left[part & is_cut[left]]]]
                boxes[best] = (*around[:, :2].min(0), *around[:, 2:].max(0))
            left = left[~(part | (shared / union > iou_thr))]
    index = np.array(kept, int)
    index = index[np.argsort(-scores[index], kind='stable')]
    return {'boxes': boxes[index], 'scores': scores[index], 'labels': labels[index]}


def _is_within_a_tile(boxes: np.ndarray, windows: Sequence[Window], margin: float) -> np.ndarray:
    """Return of each box whether some tile has it whole, ``margin`` pixels off its seams."""
    within = np.ones(len(boxes), bool)
    for axis in (0, 1):
        starts, ends = np.unique(np.array(windows)[:, [axis, axis + 2]], axis=0).T
        low = (boxes[:, [axis]] > starts + margin) | (starts == 0)
        high = (boxes[:, [axis + 2]] < ends - margin) | (ends == ends.max())
        within &= (low & high).any(1)
    return within


def find_images(inputs: Iterable[str], stride: int = 1) -> Iterator[tuple[str, Any]]:
    """Yield a name and a file, a frame, or what was wrong, of each image of the command line.

    Args:
        inputs: Files, folders (the images and videos directly in them, by name), videos, and
            numbers of cameras, each of which is read until it ends.
        stride: Every ``stride``-th frame of a video or a camera.
    """
    for text in inputs:
        path, suffix = Path(text), Path(text).suffix.lower()
        if os.path.isdir(text):
            known = IMAGE_SUFFIXES + VIDEO_SUFFIXES
            try:
                files = sorted(str(p) for p in path.iterdir() if p.suffix.lower() in known)
            except OSError as error:
                yield text, error
                continue
            files = [f for f in files if not os.path.isdir(f) and Path(f).name[0] != '.']
            yield from find_images(files, stride)
            if not files:
                yield text, ValueError('no image or video is in this folder')
        elif suffix in VIDEO_SUFFIXES or (text.isdecimal() and len(text) < 9 and not path.exists()):
            yield from _read_frames(text, stride)
        else:
            yield text, text


def _read_frames(text: str, stride: int) -> Iterator[tuple[str, Any]]:
    cv2 = _opencv()
    if cv2 is None:
        yield text, ValueError('videos and cameras need OpenCV: pip install opencv-python')
        return
    if os.path.exists(text) and not os.path.isfile(text):
        yield text, ValueError('a pipe, socket or device, not a file')
        return
    os.environ.setdefault('OPENCV_FFMPEG_LOGLEVEL', '-8')
    capture, number = cv2.VideoCapture(int(text) if text.isdecimal() else text), 0
    try:
        while capture.grab():
            if number % stride == 0:
                whole, frame = capture.retrieve()
                if whole:
                    yield f'{text}#{number}', np.ascontiguousarray(frame[..., ::-1])
            number += 1
    finally:
        capture.release()
    if number == 0:
        yield text, ValueError('no camera, or no video that can be decoded')


def predict_each(
    model: OnnxModel,
    images: Iterable[tuple[str, Any]],
    batch_size: int = 1,
    tile: int | None = None,
    overlap: float = 0.2,
) -> Iterator[tuple[str, Any, Any]]:
    """Yield name, pixels and answer of each image, or what was wrong in the place of the answer.

    Args:
        model: That predicts.
        images: Of :func:`find_images`.
        batch_size: Images or tiles at once; images of different sizes are padded to the largest.
        tile: For :meth:`OnnxModel.predict_sliced`; None for images as a whole alone.
        overlap: Likewise.
    """

    def attempt(call: Callable[..., Any], image: Any, *options: Any) -> Any:
        if isinstance(image, Exception):
            return image
        try:
            return call(image, *options)
        except Exception as error:  # onnxruntime has types of its own for what it cannot take
            return error

    images = iter(images)
    while batch := list(islice(images, batch_size if tile is None else 1)):
        names = [name for name, _ in batch]
        read = [x if isinstance(x, np.ndarray) else attempt(model.read, x) for _, x in batch]
        answers: Any = attempt(model.predict_all, read) if len(read) > 1 else None
        if tile is not None:
            answers = [attempt(model.predict_sliced, x, tile, overlap, batch_size) for x in read]
        elif not isinstance(answers, list):
            answers = [attempt(model.predict, image) for image in read]
        yield from zip(names, read, answers, strict=True)


class LabellingFiles:
    """What is predicted, as labelling tools read it, to be corrected there.

    Of each box or label: ``coco.json`` (a COCO dataset whose annotations have scores),
    ``predictions.csv``, ``labels/`` in YOLO's format with ``classes.txt``, ``labelme/``, or
    ``label_studio.json`` with ``label_studio.xml``, the labelling configuration.

    Args:
        folder: That they go to.
        formats: Of :attr:`FORMATS`.
        classes: Names by class number.
        detects: Whether there are boxes.

    Raises:
        ValueError: The format has boxes alone.
    """

    FORMATS = ('coco', 'csv', 'yolo', 'labelme', 'labelstudio')

    def __init__(
        self, folder: str | PathLike, formats: Iterable[str], classes: Sequence[str], detects: bool
    ) -> None:
        self._folder, self._classes, self._formats = Path(folder), classes, set(formats)
        self._names: set[str] = set()
        self._rows: list[tuple] = []
        self._tasks: list[dict] = []
        self._coco: dict[str, list[dict]] = dict(images=[], annotations=[], categories=[])
        self._coco['categories'] = [dict(id=n, name=c) for n, c in enumerate(classes, 1)]
        if boxes_only := sorted(self._formats & {'coco', 'yolo'} if not detects else ()):
            raise ValueError(
                f'--format {boxes_only[0]} is for boxes: give csv, labelme, labelstudio'
            )
        odd = next((name for name in classes if _NO_LINE.search(name) or not name.strip()), None)
        if odd is not None and (lines := sorted(self._formats & {'yolo', 'labelstudio'})):
            raise ValueError(
                f'--format {lines[0]}: no line of its list of classes can be the name '
                f'{odd!r:.80}: give another format, or rename the class'
            )
        self._kind = 'RectangleLabels' if detects else 'Choices'

    def add(self, name: str, size: Sequence[int], found: Iterable[tuple]) -> None:
        """Take the predictions for an image.

        Args:
            name: Of the file, or ``FILE#NUMBER`` of a frame.
            size: Height and width in pixels.
            found: Class number, score and box ``(x1, y1, x2, y2)`` in pixels, or None, of each.
        """
        height, width = (int(side) for side in size[:2])
        rows = [
            (int(label), float(score), None if box is None else [round(float(v), 3) for v in box])
            for label, score, box in found
        ]
        file, _, frame = name.rpartition('#')
        is_frame = file.isdecimal() or file.lower().endswith(VIDEO_SUFFIXES)
        stem = base = f'{Path(file).stem}_{frame}' if is_frame else Path(name).stem
        number = 1
        while stem in self._names:
            number += 1
            stem = f'{base}_{number}'
        self._names.add(stem)
        for kind in self._formats:
            getattr(self, f'_add_{kind}')(name, stem, height, width, rows)

    def _add_csv(self, name: str, stem: str, height: int, width: int, rows: list[tuple]) -> None:
        for label, score, box in rows:
            self._rows.append((name, self._classes[label], f'{score:.6f}', *(box or ())))

    def _add_coco(self, name: str, stem: str, height: int, width: int, rows: list[tuple]) -> None:
        number, annotations = len(self._coco['images']) + 1, self._coco['annotations']
        self._coco['images'].append(dict(id=number, file_name=name, width=width, height=height))
        for label, score, (x1, y1, x2, y2) in rows:
            box, area = [x1, y1, x2 - x1, y2 - y1], (x2 - x1) * (y2 - y1)
            entry = dict(id=len(annotations) + 1, image_id=number, category_id=label + 1)
            annotations.append(entry | dict(bbox=box, area=area, iscrowd=0, score=score))

    def _add_yolo(self, name: str, stem: str, height: int, width: int, rows: list[tuple]) -> None:
        lines = []
        for label, _, (x1, y1, x2, y2) in rows:
            centre = (x1 + x2) / 2 / width, (y1 + y2) / 2 / height
            sides = *centre, (x2 - x1) / width, (y2 - y1) / height
            lines.append(' '.join([str(label), *(f'{side:.6f}' for side in sides)]) + '\n')
        self._write(f'labels/{stem}.txt', ''.join(lines))

    def _add_labelme(
        self, name: str, stem: str, height: int, width: int, rows: list[tuple]
    ) -> None:
        shapes = [
            dict(label=self._classes[label], points=[box[:2], box[2:]], shape_type='rectangle')
            | dict(group_id=None, description=f'{score:.3f}', flags={})
            for label, score, box in rows
            if box is not None
        ]
        flags = {self._classes[label]: True for label, _, box in rows if box is None}
        path = name if '://' in name else os.path.relpath(name, self._folder / 'labelme')
        content: dict[str, Any] = dict(imagePath=path, imageData=None, shapes=shapes, flags=flags)
        content |= dict(version='5.5.0', imageHeight=height, imageWidth=width)
        self._write(f'labelme/{stem}.json', json.dumps(content, indent=1))

    def _add_labelstudio(
        self, name: str, stem: str, height: int, width: int, rows: list[tuple]
    ) -> None:
        key, results = self._kind.lower(), []
        for number, (label, score, box) in enumerate(rows):
            value: dict[str, Any] = {key: [self._classes[label]]}
            if box is not None:
                sides = zip(box, (width, height) * 2, strict=True)
                x1, y1, x2, y2 = (100 * pixels / side for pixels, side in sides)
                value |= dict(x=x1, y=y1, width=x2 - x1, height=y2 - y1, rotation=0)
            result: dict[str, Any] = dict(id=f'{stem}_{number}', type=key, value=value, score=score)
            result |= dict(original_width=width, original_height=height, image_rotation=0)
            results.append(result | dict(from_name='label', to_name='image'))
        # A path below LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT=/.
        local = f'/data/local-files/?d={os.path.abspath(name)[1:]}'
        prediction = dict(model_version='tresnet_det', result=results)
        data = dict(image=name if '://' in name else local)
        self._tasks.append(dict(data=data, predictions=[prediction]))

    def close(self) -> None:
        """Write what is one file for all images."""
        if 'csv' in self._formats:
            text = io.StringIO()
            header = ('file', 'class', 'score', 'x1', 'y1', 'x2', 'y2')
            csv.writer(text).writerows([header, *self._rows])
            self._write('predictions.csv', text.getvalue())
        if 'coco' in self._formats:
            self._write('coco.json', json.dumps(self._coco))
        if 'yolo' in self._formats:
            self._write('classes.txt', ''.join(f'{name}\n' for name in self._classes))
        if 'labelstudio' in self._formats:
            detects = self._kind == 'RectangleLabels'
            tag = 'Label' if detects else 'Choice'
            names = ''.join(f'<{tag} value={quoteattr(name)}/>' for name in self._classes)
            kind = self._kind + ('' if detects else ' choice="multiple"')
            view = f'<{kind} name="label" toName="image">{names}</{self._kind}>'
            view = f'<View><Image name="image" value="$image"/>{view}</View>\n'
            self._write('label_studio.xml', view)
            self._write('label_studio.json', json.dumps(self._tasks))

    def _write(self, name: str, text: str) -> None:
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f'{path.name}.unfinished')
        try:
            unfinished.write_text(text, encoding='utf-8', errors='backslashreplace')
            unfinished.replace(path)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error
        finally:
            unfinished.unlink(missing_ok=True)


def describe(model: OnnxModel, answer: Answer, score_thr: np.ndarray) -> list[str]:
    """Return a line for each box from a score, for the top 5 classes or a feature map.

    Args:
        model: That it is of.
        answer: To one image.
        score_thr: In [0, 1]: one number, or one by class, ``(classes,)``.
    """
    if model.task == 'backbone':
        return [f'{name}  {value.shape}' for name, value in answer.items()]
    is_detector = model.task == 'detector'
    rows = select(model, answer, score_thr) if is_detector else select(model, answer)[:5]
    lines = []
    for label, score, box in rows:
        name = label if model.classes is None else model.classes[label]
        lines.append(f'{score:.3f}  {_printable(name, 80)}')
        if box is not None:
            lines[-1] += '  ' + ' '.join(f'{side:.1f}' for side in box)
    least = f'{score_thr:.3g}' if np.ndim(score_thr) == 0 else 'the threshold of its class'
    return lines or [f'nothing above {least}']


def select(model: OnnxModel, answer: Answer, score_thr: Any = 0.0) -> list[tuple]:
    """Return class number, score and box, None of a classifier, from a score, highest first."""
    scores = answer['scores']
    labels = answer['labels'] if model.task == 'detector' else np.argsort(-scores, kind='stable')
    if model.task == 'classifier':
        scores = scores[labels]
    boxes = answer.get('boxes', [None] * len(scores))
    least = np.broadcast_to(score_thr, max(np.size(score_thr), labels.max(initial=0) + 1))
    return [r for r in zip(labels, scores, boxes, strict=True) if r[1] >= least[r[0]]]


def _printable(text: object, longest: int = 1000) -> str:
    """Return a text as a terminal can show it, its control characters as Python writes them."""
    short = str(text) if len(str(text)) <= longest else f'{str(text)[: longest - 3]}...'
    return ''.join(c if c.isprintable() else c.encode('unicode_escape').decode() for c in short)


def _open_streams() -> None:
    """Open what was closed of stdin, stdout and stderr (``2>&-``): else a file gets its number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    sys.stdout = sys.stdout or open(os.devnull, 'w')  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, 'w')  # noqa: SIM115


def _stop(number: int, frame: Any) -> None:
    """Let another signal end this as the keyboard does: what there is by then is written."""
    raise KeyboardInterrupt(number)


def _end(status: int, *lines: object) -> None:
    """End, without failing once more at what cannot be printed."""
    try:
        for line in lines:
            print(_printable(line), file=sys.stderr)
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(status)


def _number_from(low: float, high: float, kind: type = int) -> Callable[[str], Any]:
    """Return what reads an option's number, for ``type=``."""

    def read(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not low <= value <= high:
            raise argparse.ArgumentTypeError(f'{text!r} is no number from {low} to {high}')
        return value

    return read


def main() -> None:
    """Print what the command line's model finds in its images."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('model', metavar='FILE.onnx', help='what tools/export.py has written')
    parser.add_argument(
        'inputs', nargs='+', metavar='INPUT', help='images, folders, videos, numbers of cameras'
    )
    parser.add_argument(
        '--strict', action='store_true', help='end with an error where an image was skipped'
    )
    parser.add_argument(
        '--score-thr',
        type=_number_from(0, 1, float),
        help=f"least score of a box (default: the file's own, else {SCORE_THR})",
    )
    parser.add_argument('--engine', choices=['onnxruntime', 'openvino'], default='onnxruntime')
    parser.add_argument('--threads', type=_number_from(1, 1024), help='of the CPU')
    parser.add_argument(
        '--batch-size', type=_number_from(1, 1024), default=1, help='images at once (1)'
    )
    parser.add_argument(
        '--slice',
        type=_number_from(SMALLEST_TILE, 100_000),
        metavar='N',
        help='predict tiles of N pixels too',
    )
    parser.add_argument(
        '--overlap', type=_number_from(0, 0.9, float), default=0.2, help='of tiles, a share (0.2)'
    )
    parser.add_argument(
        '--video-stride', type=_number_from(1, 10**9), default=1, help='every N-th frame (1)'
    )
    parser.add_argument(
        '--format',
        nargs='+',
        choices=LabellingFiles.FORMATS,
        default=[],
        help='also write files that labelling tools read, of scores from --score-thr',
    )
    parser.add_argument(
        '--out', help='folder for them (predictions); without --format, it gets a CSV'
    )
    args = parser.parse_args()
    args.format = args.format or ['csv'] * bool(args.out)
    args.out = args.out or 'predictions'
    try:
        count, skipped = _print_all(args)
        sys.stdout.flush()  # a closed pipe shows here, not at exit
    except BrokenPipeError:
        _end(141)  # as shells report SIGPIPE
    except (OSError, ValueError) as error:
        _end(2, f'error: {error}')
    except KeyboardInterrupt as stop:
        number = stop.args[0] if stop.args else signal.SIGINT
        _end(128 + number, STOPS.get(number, 'stopped by the keyboard'))
    if skipped:
        print(f'{skipped} of {count} could not be predicted', file=sys.stderr)
        sys.exit(2 if args.strict else 0)


def _print_all(args: argparse.Namespace) -> tuple[int, int]:
    """Predict, print and write files; return how many images there were, and how many skipped."""
    model = OnnxModel(args.model, threads=args.threads, engine=args.engine)
    if args.slice and model.task != 'detector':
        raise ValueError(f'--slice is for detectors, and {args.model} is a {model.task}')
    if args.format and (model.task == 'backbone' or not model.classes):
        raise ValueError(f'--format: {args.model} is a backbone or has no names of classes')
    names = model.classes or ()
    files = LabellingFiles(args.out, args.format, names, detects=model.task == 'detector')
    if args.format:  # before minutes are spent
        try:
            Path(args.out).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f'--out {args.out} cannot be made: {error.strerror}') from error
    score_thr = model.score_thr if args.score_thr is None else np.array(args.score_thr)
    count = skipped = 0
    images = find_images(args.inputs, args.video_stride)
    try:
        for name, pixels, found in predict_each(
            model, images, args.batch_size, args.slice, args.overlap
        ):
            count += 1
            if isinstance(found, Exception):
                skipped += 1
                reason = ' '.join(str(found).split()) or type(found).__name__
                reason = reason.removeprefix(f'{name}: ')
                print(_printable(f'skipped {name}: {reason}'), file=sys.stderr)
                continue
            print(_printable(name))
            for line in describe(model, found, score_thr):
                print(f'  {_printable(line)}')
            if args.format:
                files.add(name, pixels.shape, select(model, found, score_thr))
    finally:  # the keyboard is what ends a camera: what there is by then counts
        files.close()
    return count, skipped


if __name__ == '__main__':
    _open_streams()
    for number in STOPS:
        signal.signal(number, _stop)
    main()
