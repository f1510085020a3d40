"""What a prediction leaves behind: drawn images and videos, JSON, CSV and a table."""

import csv
import json
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, MissingFileError, shorten
from ..evaluation import format_table
from ..evaluation.labels import FileNames
from ..files import replacing, write_whole
from .inputs import InputImage, Source, Video
from .onnx_runner import LabellingFiles
from .output_files import JsonList, VideoWriter, safe_name, save_image
from .result import Result

RESULTS = ('results.bbox.json', 'results.segm.json', 'images.json', 'results.json', 'results.csv')
TABLE_ROWS = 20
VIDEO_LINES = 5  # for the labels beneath a frame, whose number changes


class CocoIds:
    """The numbers by which COCO's evaluation knows images and classes.

    Args:
        ann_file: A COCO annotation file that names the images and the classes; None to count
            the images as they come, and the classes, from 1.
        classes: The model's.

    Attributes:
        categories: The number of each class.

    Raises:
        MissingFileError: The file does not exist.
        InputError: It is no such file, or lacks a class.
    """

    def __init__(self, ann_file: str | None, classes: Sequence[str]) -> None:
        self._ann_file = ann_file
        self.categories = {name: number for number, name in enumerate(classes, 1)}
        if ann_file is None:
            return
        try:
            content = json.loads(Path(ann_file).read_text(encoding='utf-8'))
            self._names = FileNames([image['file_name'] for image in content['images']])
            self._ids: list[int | str] = [image['id'] for image in content['images']]
            known = {category['name']: category['id'] for category in content['categories']}
        except FileNotFoundError:
            raise MissingFileError(f'--ann-file: no file at {Path(ann_file).absolute()}') from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(
                f'--ann-file {ann_file}: not in COCO format, with images and categories ({error})'
            ) from error
        lacking = [name for name in classes if name not in known]
        if lacking:
            raise InputError(
                f'--ann-file {ann_file}: it has no category {lacking[0]!r}, a class of the model '
                f'({len(lacking)} of {len(classes)} are not in it)'
            )
        self.categories = {name: known[name] for name in classes}

    def check(self, sources: Sequence[Source]) -> None:
        """Check that the annotation file, where there is one, names each image, each once.

        Raises:
            InputError: It does not.
        """
        names = [source.name for source in sources] if self._ann_file else []
        twice = [n for n, count in Counter(map(self.image_id, names, names)).items() if count > 1]
        if twice:
            raise InputError(f'--ann-file {self._ann_file}: two images are its image {twice[0]}')

    def image_id(self, name: str, default: int | str) -> int | str:
        """Return the number of an image, to whose ``file_name`` either may have put folders.

        Args:
            name: The path.
            default: Returned where there is no annotation file.

        Raises:
            InputError: The annotation file has no such image.
        """
        if self._ann_file is None:
            return default
        if (place := self._names.find(name)) is None:
            raise InputError(f'--ann-file {self._ann_file}: it does not name the image {name}')
        return self._ids[place]


@dataclass
class _Row:
    """Of the table: how often each class was found, and in how many frames of a video."""

    found: Counter[str] = field(default_factory=Counter)
    frames: int = 0


class PredictionWriter:
    """Write what is predicted as it comes, so that nothing but a line per image is kept.

    Of a detector: ``results.bbox.json``, all boxes of the model in COCO's results format,
    ``results.segm.json``, row for row the masks of the same objects where the model has them, and
    ``images.json``, the images and classes behind the numbers in both (a COCO file without
    annotations). Of a classifier: ``results.json`` and ``results.csv`` with the classes that are
    shown, the top-k, or all labels above the threshold. And ``images/``, where
    nothing has a name that leaves it and none overwrites another of the same run.

    Args:
        folder: Made where it does not exist.
        task: ``'detection'``, ``'classification'`` or ``'multilabel'``.
        classes: Their names.
        threshold: Boxes and labels are drawn and listed from this score, or that of their class; of
            a detector, the JSON has all.
        top: For single-label data, this many classes are shown.
        draw: Whether to draw.
        ids: Of a detector; None to count images and classes from 1.
        formats: Files for labelling tools too, of what is drawn: see :class:`LabellingFiles`.

    Attributes:
        count: How many images and frames were taken.
        folder: Where all of it is.
        results: The JSON of the boxes, or of the classes.
        images: Where the drawn images are; None where nothing is drawn.

    Raises:
        InputError: The folder cannot be made.
    """

    def __init__(
        self,
        folder: str | Path,
        task: str,
        classes: Sequence[str],
        threshold: float | np.ndarray,
        top: int = 3,
        draw: bool = True,
        ids: CocoIds | None = None,
        formats: Sequence[str] = (),
    ) -> None:
        self.folder = Path(folder)
        self.task, self.classes, self.top = task, classes, top
        self.thresholds = np.broadcast_to(np.asarray(threshold, float), len(classes))
        self.ids = ids or CocoIds(None, classes)
        self.images = self.folder / 'images' if draw else None
        (self.images or self.folder).mkdir(parents=True, exist_ok=True)
        self.count = 0
        self.results = self.folder / ('results.bbox.json' if self._detects else 'results.json')
        self._images: list[dict[str, Any]] = []
        self._rows: dict[str, _Row] = {}  # of the first files
        self._files = 0  # a video is one
        self._last_file: str | None = None
        self._taken: set[str] = set()
        self._source: Video | None = None  # of the video that is being written
        self._video: VideoWriter | None = None
        self._closing = ExitStack()
        self._closing.callback(self._end_video)
        self._labelling = LabellingFiles(self.folder, formats, classes, self._detects)
        self._closing.callback(self._labelling.close)
        self._json = self._closing.enter_context(JsonList(self.results))
        self._segm: JsonList | None = None  # from the first masks on
        if not self._detects:
            path = self.folder / 'results.csv'
            path = self._closing.enter_context(replacing(path))
            file = path.open('w', encoding='utf-8', errors='backslashreplace', newline='')
            self._csv = csv.writer(self._closing.enter_context(file))
            self._csv.writerow(('file', 'class', 'score'))

    def __enter__(self) -> 'PredictionWriter':
        return self

    def __exit__(self, *error: object) -> None:
        """Complete the files, also those of a run that was stopped."""
        self._closing.close()
        if self._detects:
            categories = [dict(id=v, name=k) for k, v in self.ids.categories.items()]
            content = dict(images=self._images, categories=categories, annotations=[])
            text = json.dumps(content, indent=1) + '\n'
            write_whole(self.folder / 'images.json', text.encode())

    def add(self, image: InputImage, sample: Any) -> None:
        """Take what :meth:`Predictor.stream` gives for one image.

        Raises:
            InputError: The annotation file does not name it, or there is no encoder for a video.
        """
        self.count += 1
        found = Result.of(sample, self.classes, image.pixels)
        shown = found.select(self.thresholds, self.top if self.task == 'classification' else None)
        drawn = self._draw(image, shown)
        if self._detects:
            self._write_objects(image, found, drawn)
        else:
            self._write_labels(image, shown, drawn)
        self._list(image, shown)
        boxes = [None] * len(shown) if shown.boxes is None else shown.boxes
        rows = zip(shown.labels, shown.scores, boxes, strict=True)
        self._labelling.add(image.name, image.pixels.shape, rows)

    @property
    def masks(self) -> Path | None:
        """The file with the masks, None where there are none."""
        return None if self._segm is None else self._segm.path

    def table(self) -> str:
        """Return a table of the files and what was found in them, shortened where they are many."""
        rows = []
        low, high = self.thresholds.min(), self.thresholds.max()
        nothing = f'nothing above {low:g}' + f' to {high:g}, by class' * bool(low < high)
        for name, row in self._rows.items():
            frames = f' ({row.frames} frames)' if row.frames else ''
            found = ', '.join(f'{what} x{n}' if n else what for what, n in row.found.most_common())
            found = found if len(found) <= 70 else f'{found[:67]}...'
            name = shorten(name, 40) + frames
            rows.append(dict(file=name, found=found or nothing))
        more = self._files - len(rows)
        return format_table(rows) + (f'\n... and {more} more' if more else '')

    def others(self) -> list[Path]:
        """Return the results and images in the folder that are not of this run."""
        second = self.folder / ('images.json' if self._detects else 'results.csv')
        results = {self.folder / name for name in RESULTS} - {self.results, self.masks, second}
        drawn = sorted((self.folder / 'images').glob('*'))
        others = [path for path in drawn if path.name.lower() not in self._taken]
        return [path for path in sorted(results) + others if path.is_file()]

    @property
    def _detects(self) -> bool:
        return self.task == 'detection'

    def _draw(self, image: InputImage, found: Result) -> str | None:
        """Draw an image or a frame where asked to, and return the file below the folder."""
        if self.images is None:
            return None
        rows = VIDEO_LINES if self.task == 'multilabel' else len(found)
        drawn = found.plot(rows=rows if image.video else None)
        if image.video:
            if self._video is None or image.video != self._source:
                self._end_video()
                self._source = image.video
                name = safe_name(image.video.name, self._taken, '.mp4')
                self._video = VideoWriter(self.images / name, image.video.fps, drawn)
            self._video.write(drawn)
            return f'{self.images.name}/{self._video.path.name}'
        name = safe_name(image.name, self._taken)
        save_image(drawn, self.images / name)
        return f'{self.images.name}/{name}'

    def _end_video(self) -> None:
        video, self._video, self._source = self._video, None, None
        if video is not None:
            video.close()

    def _write_objects(self, image: InputImage, found: Result, drawn: str | None) -> None:
        number = self.ids.image_id(image.name, self.count)
        height, width = image.pixels.shape[:2]
        entry = dict(id=number, file_name=image.name, width=width, height=height)
        self._images.append(entry | (dict(drawn=drawn) if drawn else {}))
        if found.rles is not None:
            if self._segm is None:
                self._segm = self._closing.enter_context(
                    JsonList(self.folder / 'results.segm.json')
                )
            for row in found.to_coco(number, self.ids.categories, 'segm'):
                self._segm.write(row)
        for row in found.to_coco(number, self.ids.categories):
            self._json.write(row)

    def _write_labels(self, image: InputImage, found: Result, drawn: str | None) -> None:
        pairs = list(zip(found.labels.tolist(), found.scores.tolist(), strict=True))
        predictions = [{'class': self.classes[n], 'label': n, 'score': s} for n, s in pairs]
        entry = dict(file=image.name, predictions=predictions)
        self._json.write(entry | (dict(drawn=drawn) if drawn else {}))
        rows = [(self.classes[n], score) for n, score in pairs]
        # An image without a label has a line too: it was predicted.
        self._csv.writerows((image.name, *row) for row in rows or [('', '')])

    def _list(self, image: InputImage, found: Result) -> None:
        """Keep the image's line of the table; a video's frames share one."""
        file = image.video.name if image.video else image.name
        if file != self._last_file:
            self._files += 1
            self._last_file = file
        if file not in self._rows:
            if len(self._rows) == TABLE_ROWS:
                return
            self._rows[file] = _Row()
        row = self._rows[file]
        row.frames += bool(image.video)
        names = found.names
        if self._detects:
            row.found.update(names)
        elif image.video:
            row.found.update(names if self.task == 'multilabel' else names[:1])
        else:
            pairs = zip(names, found.scores, strict=True)
            row.found.update({f'{name} {score:.2f}': 0 for name, score in pairs})
