"""Run a file of tools/export.py with onnxruntime alone, from image to boxes or scores.

    python onnx_runner.py FILE.onnx IMAGE [IMAGE ...]

This file stands by itself: copy it. It needs numpy and onnxruntime, and OpenCV or Pillow for a
detector, Pillow for a classifier; neither PyTorch nor MMDetection nor the rest of this package,
which ``import tresnet_det.inference.onnx_runner`` would bring along.

What is done to an image is in the file's metadata, and is what the config's test pipeline does: a
detector's images are the same to the bit with OpenCV. Without it, Pillow reads and numpy resizes
them, and they differ by one of 255 here and there. So do a classifier's images, which Pillow
resizes here and torchvision there (by up to three with bicubic interpolation).
"""

import argparse
import io
import json
import os
import sys
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime

InputImage = str | PathLike | np.ndarray
Answer = dict[str, np.ndarray]

SUPPORTED_FORMAT = 1  # of the metadata
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

    Attributes:
        task: ``'detector'``, ``'classifier'`` or ``'backbone'``.
        classes: Names by class number, or None where they are not known.
        metadata: All that the file says of itself.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: onnxruntime cannot read it, or it is not of tools/export.py.

    Example:
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
    ) -> None:
        if not Path(path).is_file():
            raise FileNotFoundError(f'{path}: no such file')
        options = onnxruntime.SessionOptions()
        if threads is not None:
            options.intra_op_num_threads = threads
        if providers is None:
            known = onnxruntime.get_available_providers()
            providers = [p for p in ('CUDAExecutionProvider', 'CPUExecutionProvider') if p in known]
        try:
            self.session = onnxruntime.InferenceSession(str(path), options, providers)
        except Exception as error:  # onnxruntime has a type for every kind of corrupt file
            reason = ' '.join(str(error).split())
            raise ValueError(f'{path}: onnxruntime cannot read it ({reason})') from error
        stored = self.session.get_modelmeta().custom_metadata_map
        if 'task' not in stored or json.loads(stored.get('format', '0')) > SUPPORTED_FORMAT:
            raise ValueError(f'{path}: not written by this version of tools/export.py')
        self.metadata = {key: json.loads(value) for key, value in stored.items()}
        self.task = self.metadata['task']
        self.classes = self.metadata['classes']
        self._outputs = [output.name for output in self.session.get_outputs()]

    def predict(self, image: InputImage) -> Answer:
        """Return what is in an image, a file or ``(H, W, 3)`` of uint8 in RGB: see :meth:`run`."""
        return self.predict_all([image])[0]

    def predict_all(self, images: Sequence[InputImage]) -> list[Answer]:
        """Return what is in each image, all in one batch: see :meth:`run`."""
        return self.run(self.prepare(images)) if len(images) else []

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
                f'the file does not say how to prepare images ({self.metadata["why_no_steps"]}): '
                'prepare them as the config does and call collate'
            )
        resized, original_sizes = [], []
        for image in images:
            if not isinstance(image, np.ndarray):
                image = read_rgb(image, prefer_opencv=self.metadata['reader'] == 'opencv')
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
        return {entry.name: inputs[entry.name] for entry in self.session.get_inputs()}

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
        outputs = dict(zip(self._outputs, self.session.run(None, dict(inputs)), strict=True))
        if self.task != 'detector':
            count = len(inputs['images'])
            return [{name: value[i] for name, value in outputs.items()} for i in range(count)]
        counts = outputs.pop('num')
        return [
            {name: value[i, :count] for name, value in outputs.items()}
            for i, count in enumerate(counts)
        ]


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
        with _open(data) as image:
            return np.array(ImageOps.exif_transpose(image).convert('RGB'))
    except Exception as error:  # Pillow's decoders raise almost anything on a corrupt file
        raise ValueError(f'{path}: not an image that can be decoded') from error


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


def describe(model: OnnxModel, answer: Answer, score_thr: float) -> list[str]:
    """Return a line for each box from a score in [0, 1], for the top 5 classes or a feature map."""
    if model.task == 'backbone':
        return [f'{name}  {value.shape}' for name, value in answer.items()]
    scores = answer['scores']
    if model.task == 'classifier':
        rows = [(scores[label], label, '') for label in np.argsort(-scores)[:5]]
    else:
        boxes = ('  ' + ' '.join(f'{side:.1f}' for side in box) for box in answer['boxes'])
        rows = [r for r in zip(scores, answer['labels'], boxes, strict=True) if r[0] >= score_thr]
    lines = []
    for score, label, box in rows:
        name = label if model.classes is None else model.classes[label]
        lines.append(f'{score:.3f}  {name}{box}')
    return lines or [f'nothing above {score_thr}']


def _printable(text: str) -> str:
    """Return a name as a terminal can show it, its control characters as Python writes them."""
    return ''.join(c if c.isprintable() else c.encode('unicode_escape').decode() for c in text)


def main() -> None:
    """Print what the command line's model finds in its images."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('model', metavar='FILE.onnx', help='what tools/export.py has written')
    parser.add_argument('images', nargs='+', metavar='IMAGE')
    parser.add_argument(
        '--strict', action='store_true', help='end with an error where an image was skipped'
    )
    parser.add_argument(
        '--score-thr', type=float, default=0.3, help='least score of a box (default: %(default)s)'
    )
    args = parser.parse_args()
    try:
        model, skipped = OnnxModel(args.model), 0
    except (OSError, ValueError) as error:
        print(_printable(f'error: {error}'), file=sys.stderr)
        sys.exit(2)
    for image in args.images:
        try:
            found = model.predict(image)
        except Exception as error:  # onnxruntime has types of its own for what it cannot take
            skipped += 1
            reason = ' '.join(str(error).split()) or type(error).__name__
            reason = reason.removeprefix(f'{image}: ')
            print(_printable(f'skipped {image}: {reason}'), file=sys.stderr)
            continue
        print(_printable(image))
        for line in describe(model, found, args.score_thr):
            print(f'  {_printable(line)}')
    if skipped:
        print(f'{skipped} of {len(args.images)} could not be predicted', file=sys.stderr)
        sys.exit(2 if args.strict else 0)


if __name__ == '__main__':
    main()
