"""Images with boxes, masks, classes and scores on them, and sheets of such images; by Pillow.

One way of drawing for the frames of a video, the images of a test and the preview of a dataset. A
frame of 640x480 with ten boxes takes 30 times as long by MMDetection's visualizer. torchvision's
functions write names over the image's edge and over each other and refuse a box whose corners are
swapped. `supervision` takes 2 s to import and brings 110 MB of a video decoder.
"""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont
from pycocotools import mask as masks_of_coco

from ..errors import shorten
from ..files import decode_with_pillow, image_bytes, replacing
from .matching import IOU
from .plots import (
    BLUE,
    DARK_BLUE,
    FONTS,
    GREEN,
    ORANGE,
    PURPLE,
    RED,
    USUAL,
    YELLOW,
    fit_letters,
)
from .verdicts import PREDICTIONS, TRUTH, Objects, Verdict, judge_classes, judge_objects

COLOURS = (BLUE, ORANGE, GREEN, YELLOW, PURPLE, RED, DARK_BLUE)  # of classes
VERDICTS = {
    Verdict.RIGHT: BLUE,
    Verdict.WRONG: ORANGE,
    Verdict.MISSED: PURPLE,
    Verdict.UNKNOWN: '#B8B8B8',
    Verdict.OTHER: '#D8D8D8',
    Verdict.PLAIN: BLUE,
}
DARK = (GREEN, RED, DARK_BLUE)  # white letters on these, black ones on the others

FILL = 0.45  # share of a mask's colour; the rest is the image's
SMALLEST = 400  # pixels of the longer side; a smaller image is enlarged, or no text would fit
SHEET_WIDTH = 2100  # pixels, about the most
GAP = 12  # pixels between the tiles of a sheet
MOST_LINES = 12  # beneath one image of a sheet


class Line(NamedTuple):
    """A name at a box, or a line of text beneath an image, with its score in [0, 1], if any."""

    text: str
    score: float | None = None
    colour: str = BLUE


def class_colour(label: int) -> str:
    """Return the colour of a class, the same in each image."""
    return COLOURS[int(label) % len(COLOURS)]


def read_image(path: str | Path) -> np.ndarray:
    """Read an image file as RGB, ``(H, W, 3)`` of uint8, turned as its EXIF header says."""
    return np.asarray(decode_with_pillow(path, image_bytes(path).tobytes()))


def draw_objects(
    image: np.ndarray,
    boxes: np.ndarray,
    lines: Sequence[Line],
    masks: Sequence[dict] = (),
    side: int | None = None,
) -> np.ndarray:
    """Draw boxes with their names on an image, above the masks where there are any.

    Args:
        image: ``(H, W, 3)`` of uint8 in RGB; it is not changed.
        boxes: ``(N, 4)``, x1 y1 x2 y2 in the image's pixels, the first on top; one of zeros is
            not drawn, only its mask.
        lines: N of them.
        masks: N run-length codes of pycocotools, of the image's size, or none.
        side: Pixels of the result's longer side: a larger image is reduced to it, a smaller one
            enlarged by the whole factor that fits. None keeps the image, enlarged by a whole
            factor to about ``SMALLEST`` where it is smaller.

    Returns:
        ``(H', W', 3)`` of uint8 in RGB.
    """
    canvas = _resize(image, side)
    width = max(2, round(max(canvas.size) / 400))
    font = _font_for(canvas)
    if len(masks):
        pixels = np.array(canvas)
        for mask, line in reversed(list(zip(masks, lines, strict=True))):
            _paint_mask(pixels, mask, line.colour, max(2, width // 2))
        canvas = Image.fromarray(pixels)
    draw = ImageDraw.Draw(canvas)
    boxes = np.asarray(boxes, dtype=float).reshape(-1, 4) * max(canvas.size) / max(image.shape[:2])
    top_down = [n for n, box in enumerate(boxes) if box.any()]
    for n in reversed(top_down):
        x1, y1 = boxes[n, :2]
        x2, y2 = np.maximum(boxes[n, 2:] - 1, boxes[n, :2])  # the last pixel inside
        draw.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline='black', width=width + 2)
        draw.rectangle((x1, y1, x2, y2), outline=lines[n].colour, width=width)
    scores = ['' if line.score is None else f' {line.score:.2f}' for line in lines]
    shown = [_fit(line.text + score, font) for line, score in zip(lines, scores, strict=True)]
    places: list[tuple[float, float, float, float]] = []
    for n in top_down:  # the first takes its place first
        text, letters = shown[n]
        size = letters.getlength(text) + 4, font.size * 1.25
        places.append(_find_place(boxes[n], size, canvas.size, places))
    for n, (x1, y1, x2, y2) in reversed(list(zip(top_down, places, strict=True))):
        draw.rectangle((x1, y1, x2, y2), fill=lines[n].colour)
        ink = 'white' if lines[n].colour in DARK else 'black'
        text, letters = shown[n]
        draw.text((x1 + 2, (y1 + y2) / 2), text, fill=ink, font=letters, anchor='lm')
    return np.asarray(canvas)


def _resize(image: np.ndarray, side: int | None) -> Image.Image:
    """Return the image in the size that ``draw_objects`` describes."""
    canvas = Image.fromarray(np.ascontiguousarray(image))
    longest = max(canvas.size)
    if side is not None and longest > side:
        canvas.thumbnail((side, side), Image.Resampling.LANCZOS)
        return canvas
    factor = max(1, round(SMALLEST / longest) if side is None else side // longest)
    # With pixels that can be counted.
    return canvas.resize([size * factor for size in canvas.size], Image.Resampling.NEAREST)


def _paint_mask(pixels: np.ndarray, code: dict, colour: str, width: int) -> None:
    """Tint a mask's pixels and draw its edge, dark on both sides like a box's."""
    x, y, w, h = masks_of_coco.toBbox(code).astype(int)
    if not w:  # a mask without a pixel
        return
    factor = len(pixels) // code['size'][0]  # images with masks are enlarged, or left as they are
    mask = masks_of_coco.decode(code)[y : y + h, x : x + w]
    mask = mask.repeat(factor, 0).repeat(factor, 1)
    x, y = int(x * factor), int(y * factor)
    part = pixels[y : y + len(mask), x : x + mask.shape[1]]
    rgb = ImageColor.getrgb(colour)
    tint = cv2.addWeighted(part, 1 - FILL, np.full_like(part, rgb), FILL, 0)
    np.copyto(part, tint, where=mask[..., None] > 0)
    edges, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    for shade, thickness in (((0, 0, 0), width + 2), (rgb, width)):
        cv2.drawContours(pixels, edges, -1, shade, thickness, cv2.LINE_AA, offset=(x, y))


def _find_place(
    box: np.ndarray,
    size: tuple[float, float],
    room: tuple[int, int],
    taken: Sequence[tuple[float, float, float, float]],
) -> tuple[float, float, float, float]:
    """Return where a name stands: at its box, inside the image and on no other name if possible."""
    (x1, y1, x2, y2), (w, h), (width, height) = box, size, room
    lefts, tops = (x1, x2 - w), (y1 - h, y2, y1, y2 - h)
    places = [(x, y) for x in lefts for y in tops if 0 <= x <= width - w and 0 <= y <= height - h]
    places.append((min(max(x1, 0), max(width - w, 0)), min(max(y1 - h, 0), max(height - h, 0))))

    def covers_another(place: tuple[float, float]) -> bool:
        x, y = place
        return any(x < r and x + w > l and y < b and y + h > t for l, t, r, b in taken)  # noqa: E741

    x, y = min(places, key=covers_another)  # the first that covers none
    return x, y, x + w, y + h


def draw_classes(
    image: np.ndarray, lines: Sequence[Line], rows: int | None = None, side: int | None = None
) -> np.ndarray:
    """Write lines beneath an image: classes, each with a bar as long as its score.

    Args:
        image: ``(H, W, 3)`` of uint8 in RGB; it is not changed.
        lines: What to write; without any, it says so.
        rows: How many lines there is room for, so that a video's frames are of one size; further
            ones are counted in the last. None for as many as there are.
        side: As in :func:`draw_objects`.

    Returns:
        ``(H', W', 3)`` of uint8 in RGB, the image on top of the text.
    """
    canvas = _resize(image, side)
    font = _font_for(canvas)
    height = round(font.size * 1.5)
    rows = max(1, len(lines) if rows is None else rows)
    width = max(canvas.width, 12 * round(font.size))  # room for a name beneath a narrow image
    sheet = Image.new('RGB', (width, canvas.height + rows * height + height // 2), 'white')
    sheet.paste(canvas)
    draw = ImageDraw.Draw(sheet)
    shown = list(lines or [Line('no label')])
    if len(shown) > rows:
        shown[rows - 1 :] = [Line(f'and {len(shown) - rows + 1} more')]
    for n, line in enumerate(shown):
        top = canvas.height + height // 4 + n * height
        left, right, bottom, middle = 2, width - 3, top + height - 3, top + (height - 3) / 2
        end = right
        if line.score is not None:
            end -= round(2.4 * font.size)  # of the bar; the score stands right of it
            filled = left + (end - left) * min(max(line.score, 0), 1)
            pale = tuple(128 + part // 2 for part in ImageColor.getrgb(line.colour))
            draw.rectangle((left, top, filled, bottom), fill=pale)
            draw.rectangle((left, top, end, bottom), outline=line.colour)
            draw.text((right, middle), f'{line.score:.2f}', fill='black', font=font, anchor='rm')
        text, letters = _fit(line.text, font)
        text = shorten(text, end - left - font.size / 2, letters.getlength)
        draw.text((left + font.size / 4, middle), text, fill='black', font=letters, anchor='lm')
    return np.asarray(sheet)


def draw_detections(
    samples: Iterable[Any], classes: Sequence[str], out_path: str | Path, score_thr: float = 0.3
) -> None:
    """Draw a sheet of a detector's images: ground truth at the left, predictions at the right.

    Args:
        samples: A ``DetDataSample`` each, with ``img_path``, and ``gt_instances``,
            ``pred_instances`` or both, whose boxes are in the image's pixels.
        classes: Name of each label.
        out_path: The image file to write; its folder is made.
        score_thr: Predictions with a lower score are not drawn.

    Raises:
        InputError: An image does not exist or does not decode.
    """
    tiles, counts, sides = [], Counter[Verdict](), set[str]()
    for sample in samples:
        path, judged = sample.img_path, judge_objects(sample, score_thr)
        tiles.append(draw_sides(path, judged, classes))
        for what, _, verdicts in judged:
            sides.add(what)
            # A right prediction is an object that was found, which counts once.
            counts.update(v for v in verdicts if what == TRUTH or v is not Verdict.RIGHT)
    note = f', score {score_thr:.3g} or more' * (PREDICTIONS in sides)
    note += f', IoU {IOU:g} or more' * (len(sides) == 2)
    save_sheet(tiles, out_path, sides, note, counts)


def draw_sides(
    path: str | Path, judged: Sequence[tuple[str, Objects, list[Verdict]]], classes: Sequence[str]
) -> np.ndarray:
    """Draw an image for each side, next to each other: what it is, the objects, their verdicts.

    Raises:
        InputError: The image does not exist or does not decode.
    """
    image = read_image(path)
    whole = max(image.shape[:2]) <= _side(image)  # a mask is drawn in its own size, or larger
    panels: list[np.ndarray] = []
    for what, objects, verdicts in judged:
        lines = [
            Line(f'{v.value} {shorten(classes[n])}'.lstrip(), score, VERDICTS[v])
            for v, n, score in zip(verdicts, objects.labels, objects.scores, strict=True)
        ]
        masks = objects.masks if whole else ()
        panel = draw_objects(image, objects.boxes, lines, masks=masks, side=_side(image))
        panels.append(_add_caption(panel, what if panels else f'{Path(path).name}: {what}'))
    return np.hstack(panels)


def draw_classifications(
    samples: Iterable[Any],
    classes: Sequence[str],
    out_path: str | Path,
    multi_label: bool,
    threshold: float = 0.5,
) -> None:
    """Draw a sheet of images with the classes that a classifier gives them.

    Each class has a sign, a score and a bar as long as the score. For single-label data, the top
    classes stand below the ground truth; with several, the predicted labels and those missed.

    Args:
        samples: A ``ClsDataSample`` each, with ``img_path``, and ``gt_label``, ``pred_score`` or
            both.
        classes: Name of each class.
        out_path: The image file to write; its folder is made.
        multi_label: Whether an image has any number of labels.
        threshold: With ``multi_label``, a label is predicted above it, as in `MultiLabelMetric`.

    Raises:
        InputError: An image does not exist or does not decode.
    """
    tiles, counts, sides = [], Counter[Verdict](), set[str]()
    for sample in samples:
        image, label, lines = read_image(sample.img_path), None, []
        if 'gt_label' in sample:
            sides.add(TRUTH)
            label = sample.gt_label.cpu().numpy()
            lines = [] if multi_label else [Line(f'{TRUTH}: {classes[int(label)]}')]
        if 'pred_score' in sample:
            sides.add(PREDICTIONS)
            scores = sample.pred_score.float().cpu().numpy()
            judged = judge_classes(scores, label, multi_label, threshold)
            counts.update(verdict for verdict, _ in (judged if multi_label else judged[:1]))
            lines += class_lines(judged, scores, classes)
        tile = draw_classes(image, lines, min(len(lines), MOST_LINES), _side(image))
        tiles.append(_add_caption(tile, Path(sample.img_path).name))
    note = f', score above {threshold:g}' * multi_label
    save_sheet(tiles, out_path, sides, note, counts)


def class_lines(judged: list, scores: np.ndarray, classes: Sequence[str]) -> list[Line]:
    """Return a line for each class that :func:`.verdicts.judge_classes` judged."""
    return [
        Line(f'{verdict.value} {classes[n]}'.lstrip(), float(scores[n]), VERDICTS[verdict])
        for verdict, n in judged
    ]


def _side(image: np.ndarray) -> int:
    """Return how long the longer side of an image is on a sheet: small ones need less room."""
    return 288 if max(image.shape[:2]) <= 256 else 500


def _add_caption(image: np.ndarray, text: str) -> np.ndarray:
    """Write a line above an image, shortened to its width, and leave a gap at its right."""
    text, font = _fit(text, _font(16))
    height, width = image.shape[:2]
    tile = Image.new('RGB', (width + GAP // 2, height + round(1.5 * font.size)), 'white')
    tile.paste(Image.fromarray(image), (0, tile.height - height))
    text = shorten(text, width, font.getlength)
    ImageDraw.Draw(tile).text((0, 0.7 * font.size), text, fill='black', font=font, anchor='lm')
    return np.asarray(tile)


def save_sheet(
    tiles: Sequence[np.ndarray],
    out_path: str | Path,
    sides: Collection[str],
    note: str,
    counts: Counter[Verdict],
) -> None:
    """Write images as a grid, about half as wide again as high, below a title and a line of counts.

    Args:
        tiles: ``(H, W, 3)`` of uint8 in RGB each.
        out_path: The image file to write; its folder is made.
        sides: Which of ``TRUTH`` and ``PREDICTIONS`` is on the images.
        note: What stands behind the number of images.
        counts: How often each verdict was given, written in its colour where both sides are there.
    """
    height, width = (max(tile.shape[axis] for tile in tiles) + GAP for axis in (0, 1))
    target = max(1, round(math.sqrt(1.5 * len(tiles) * height / width)))
    rows = math.ceil(len(tiles) / min(max(1, SHEET_WIDTH // width), target))
    across = math.ceil(len(tiles) / rows)  # full rows, as far as can be
    words = [(f'{len(tiles)} image{"s" * (len(tiles) > 1)}{note}', 'white')]
    if len(sides) == 2:
        words += [
            (f'{v.value} {counts[v]} {v.name.lower()}', VERDICTS[v])
            for v in (Verdict.RIGHT, Verdict.WRONG, Verdict.MISSED, Verdict.UNKNOWN)
            if counts[v] or v in (Verdict.RIGHT, Verdict.WRONG)
        ]
    font = _font(20)
    ends = list(accumulate(font.getlength(text) + 25 for text, _ in words))
    size = GAP + max(across * width, round(ends[-1])), 96 + rows * height
    sheet = Image.new('RGB', size, 'white')
    draw = ImageDraw.Draw(sheet)
    title = ' and '.join(sorted(sides)).capitalize()
    bold = _font(30, str(FONTS / 'DejaVuSans-Bold.ttf'))
    draw.text((GAP, 30), title, fill='black', font=bold, anchor='lm')
    for (text, colour), x in zip(words, (0, *ends), strict=False):
        draw.rectangle((GAP + x - 5, 56, GAP + x + font.getlength(text) + 5, 82), fill=colour)
        draw.text((GAP + x, 69), text, fill='black', font=font, anchor='lm')
    for n, tile in enumerate(tiles):
        row, column = divmod(n, across)
        sheet.paste(Image.fromarray(tile), (GAP + column * width, 96 + row * height))
    Path(out_path).parent.mkdir(parents=True, exist_ok=True)
    with replacing(out_path) as temporary:
        sheet.save(temporary)


def _font_for(canvas: Image.Image) -> ImageFont.FreeTypeFont:
    """Return the letters that suit an image of this size."""
    return _font(min(11 + max(canvas.size) // 90, 48))


@lru_cache
def _font(size: float, file: str = USUAL) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(file, size)


def _fit(text: str, font: ImageFont.FreeTypeFont) -> tuple[str, ImageFont.FreeTypeFont]:
    """Return a name as it can be drawn, and the letters for it, of the size of a font."""
    text, file = fit_letters(text)
    return text, font if file == USUAL else _font(font.size, file)
