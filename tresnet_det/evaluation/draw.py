"""Draw boxes, masks, names and class scores on images, and put such images on a sheet.

One way of drawing for the frames of a video, the images of a test and the preview of a dataset, by
Pillow. A frame of 640x480 with ten boxes takes 30 times as long by MMDetection's visualizer, which
draws through matplotlib; torchvision's functions write names over the image's edge and over each
other, paint overlapping masks black, and refuse a box whose corners are swapped.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont
from pycocotools import mask as masks_of_coco

from ..datasets.decode import decode_rgb, to_pillow
from .report import shorten

# Okabe and Ito's palette, told apart with every kind of colour vision.
BLUE, ORANGE, GREEN, YELLOW = '#56B4E9', '#E69F00', '#009E73', '#F0E442'
PURPLE, RED, DARK_BLUE = '#CC79A7', '#D55E00', '#0072B2'
COLOURS = (BLUE, ORANGE, GREEN, YELLOW, PURPLE, RED, DARK_BLUE)  # of classes
DARK = (GREEN, RED, DARK_BLUE)  # white letters on these, black ones on the others

FILL = 0.45  # share of a mask's colour; the rest is the image's
SMALLEST = 400  # pixels of the longer side; a smaller image is enlarged, or no text would fit
SHEET_WIDTH = 2100  # pixels, about the most
GAP = 12  # pixels between the tiles of a sheet


class Line(NamedTuple):
    """A line of text beneath an image, on a bar as long as the score in [0, 1], if it has one."""

    text: str
    score: float | None = None
    colour: str = BLUE


def class_colour(label: int) -> str:
    """Return the colour of a class, the same in each image."""
    return COLOURS[int(label) % len(COLOURS)]


def read_image(path: str | Path) -> np.ndarray:
    """Read an image file as RGB, ``(H, W, 3)`` of uint8, turned as its EXIF header says.

    Raises:
        MissingFileError: It does not exist.
        InputError: It does not decode.
    """
    return np.asarray(to_pillow(decode_rgb(path)))


def tile_side(image: np.ndarray) -> int:
    """Return how long the longer side of an image is on a sheet: small ones need less room."""
    return 288 if max(image.shape[:2]) <= 256 else 500


def draw_objects(
    image: np.ndarray,
    boxes: np.ndarray,
    names: Sequence[str],
    colours: Sequence[str],
    masks: Sequence[dict] | None = None,
    side: int | None = None,
) -> np.ndarray:
    """Draw boxes with their names on an image, above the masks where there are any.

    Args:
        image: ``(H, W, 3)`` of uint8 in RGB; it is not changed.
        boxes: ``(N, 4)``, x1 y1 x2 y2 in the image's pixels, the first on top; one of zeros is
            not drawn, only its mask.
        names: N texts.
        colours: N of them, as ``#RRGGBB``.
        masks: N run-length codes of pycocotools, of the image's size.
        side: Pixels of the result's longer side: a larger image is reduced to it, a smaller one
            enlarged by the whole factor that fits. None keeps the image, enlarged by a whole
            factor to about ``SMALLEST`` where it is smaller.

    Returns:
        ``(H', W', 3)`` of uint8 in RGB.
    """
    canvas, factor = _resize(image, side)
    width = max(2, round(max(canvas.size) / 400))
    font = _font_for(canvas.size)
    boxes = np.asarray(boxes, dtype=float).reshape(-1, 4) * factor
    bottom_up = list(range(len(boxes)))[::-1]
    if masks is not None:
        pixels = np.array(canvas)
        for n in bottom_up:
            _paint_mask(pixels, masks[n], colours[n], max(2, width // 2))
        canvas = Image.fromarray(pixels)
    draw = ImageDraw.Draw(canvas)
    bottom_up = [n for n in bottom_up if boxes[n].any()]
    for n in bottom_up:
        x1, y1 = boxes[n, :2]
        x2, y2 = np.maximum(boxes[n, 2:] - 1, boxes[n, :2])  # the last pixel inside
        draw.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline='black', width=width + 2)
        draw.rectangle((x1, y1, x2, y2), outline=colours[n], width=width)
    places: dict[int, tuple[float, float, float, float]] = {}
    for n in reversed(bottom_up):  # the first takes its place first
        size = font.getlength(names[n]) + 4, font.size * 1.25
        places[n] = _find_place(boxes[n], size, canvas.size, list(places.values()))
    for n, (x1, y1, x2, y2) in reversed(places.items()):
        draw.rectangle((x1, y1, x2, y2), fill=colours[n])
        letters = 'white' if colours[n] in DARK else 'black'
        draw.text((x1 + 2, (y1 + y2) / 2), names[n], fill=letters, font=font, anchor='lm')
    return np.asarray(canvas)


def _resize(image: np.ndarray, side: int | None) -> tuple[Image.Image, float]:
    """Return the image in the size that ``draw_objects`` describes, and the factor."""
    canvas = Image.fromarray(np.ascontiguousarray(image))
    longest = max(canvas.size)
    if side is not None and longest > side:
        canvas.thumbnail((side, side), Image.Resampling.LANCZOS)
        return canvas, max(canvas.size) / longest
    factor = max(1, round(SMALLEST / longest) if side is None else side // longest)
    if factor > 1:  # with pixels that can be counted
        canvas = canvas.resize([size * factor for size in canvas.size], Image.Resampling.NEAREST)
    return canvas, factor


def _paint_mask(pixels: np.ndarray, code: dict, colour: str, width: int) -> None:
    """Tint a mask's pixels and draw its edge, dark on both sides like a box's."""
    scale = np.array([pixels.shape[1], pixels.shape[0]] * 2) / np.tile(code['size'][::-1], 2)
    box = masks_of_coco.toBbox(code).astype(int)
    if not box[2]:  # a mask without a pixel
        return
    x, y, w, h = box
    mask = masks_of_coco.decode(code)[y : y + h, x : x + w]
    x, y, w, h = np.maximum(np.rint(box * scale), (0, 0, 1, 1)).astype(int).tolist()
    part = pixels[y : y + h, x : x + w]
    mask = cv2.resize(mask, part.shape[1::-1], interpolation=cv2.INTER_NEAREST)
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
    taken: list[tuple[float, float, float, float]],
) -> tuple[float, float, float, float]:
    """Return where a name stands: at its box, inside the image and on no other name if possible."""
    (x1, y1, x2, y2), (w, h), (width, height) = box, size, room
    lefts, tops = (x1, x2 - w), (y1 - h, y2, y1, y2 - h)
    inside = [(x, y) for x in lefts for y in tops if 0 <= x <= width - w and 0 <= y <= height - h]
    clipped = min(max(x1, 0), max(width - w, 0)), min(max(y1 - h, 0), max(height - h, 0))
    for x, y in [*inside, clipped]:
        if not any(x < r and x + w > l and y < b and y + h > t for l, t, r, b in taken):  # noqa: E741
            break
    else:
        x, y = [*inside, clipped][0]
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
    canvas, _ = _resize(image, side)
    font = _font_for(canvas.size)
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
        _write_line(draw, line, (2, top, width - 3, top + height - 3), font)
    return np.asarray(sheet)


def _write_line(
    draw: ImageDraw.ImageDraw,
    line: Line,
    place: tuple[int, int, int, int],
    font: ImageFont.FreeTypeFont,
) -> None:
    left, top, right, bottom = place
    middle, end = (top + bottom) / 2, right
    if line.score is not None:
        end = right - round(2.4 * font.size)  # of the bar; the score stands right of it
        filled = left + (end - left) * min(max(line.score, 0), 1)
        pale = tuple(128 + part // 2 for part in ImageColor.getrgb(line.colour))
        draw.rectangle((left, top, filled, bottom), fill=pale)
        draw.rectangle((left, top, end, bottom), outline=line.colour)
        draw.text((right, middle), f'{line.score:.2f}', fill='black', font=font, anchor='rm')
    text = shorten(line.text, end - left - font.size / 2, font.getlength)
    draw.text((left + font.size / 4, middle), text, fill='black', font=font, anchor='lm')


def add_caption(image: np.ndarray, text: str) -> np.ndarray:
    """Write a line above an image ``(H, W, 3)``, shortened to its width."""
    font = _font(16)
    sheet = Image.new('RGB', (image.shape[1], image.shape[0] + round(1.5 * font.size)), 'white')
    text = shorten(text, sheet.width, font.getlength)
    ImageDraw.Draw(sheet).text((0, 0.7 * font.size), text, fill='black', font=font, anchor='lm')
    sheet.paste(Image.fromarray(image), (0, sheet.height - image.shape[0]))
    return np.asarray(sheet)


def join(images: Sequence[np.ndarray], gap: int = GAP // 2) -> np.ndarray:
    """Put images of one height next to each other."""
    between = np.full((images[0].shape[0], gap, 3), 255, np.uint8)
    return np.hstack([part for image in images for part in (between, image)][1:])


def save_sheet(
    tiles: Sequence[np.ndarray],
    out_path: str | Path,
    title: str,
    note: str,
    legend: Sequence[tuple[str, str]] = (),
) -> None:
    """Write images as a grid below a title, a note and a legend; its folder is made.

    Args:
        tiles: ``(H, W, 3)`` of uint8 in RGB each; the grid is about half as wide again as high.
        out_path: The image file to write.
        title: What the sheet shows.
        note: A line of smaller letters below it.
        legend: Colours and what each means.
    """
    width, height = (max(tile.shape[axis] for tile in tiles) + GAP for axis in (1, 0))
    most = max(1, SHEET_WIDTH // width)
    wished = max(1, round(math.sqrt(1.5 * len(tiles) * height / width)))
    rows = math.ceil(len(tiles) / min(most, wished))
    across = math.ceil(len(tiles) / rows)  # full rows, as far as can be
    lines = [tiles[n : n + across] for n in range(0, len(tiles), across)]
    heights = [max(tile.shape[0] for tile in line) + GAP for line in lines]

    heading, text = _font(30, bold=True), _font(20)
    lengths = [text.getlength(words) + 60 for _, words in legend]
    size = max(across * width, heading.getlength(title), text.getlength(note), sum(lengths)) + GAP
    head = 92 + 34 * bool(legend)
    sheet = Image.new('RGB', (round(size), head + sum(heights)), 'white')
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, 30), title, fill='black', font=heading, anchor='lm')
    draw.text((GAP, 66), note, fill='black', font=text, anchor='lm')
    x: float = GAP
    for (colour, words), length in zip(legend, lengths, strict=True):
        draw.rectangle((x, 90, x + 24, 110), fill=colour)
        draw.text((x + 32, 100), words, fill='black', font=text, anchor='lm')
        x += length
    for row, line in enumerate(lines):
        for column, tile in enumerate(line):
            place = (GAP + column * width, head + sum(heights[:row]))
            sheet.paste(Image.fromarray(tile), place)
    Path(out_path).parent.mkdir(parents=True, exist_ok=True)
    sheet.save(out_path)


def _font_for(size: Sequence[int]) -> ImageFont.FreeTypeFont:
    """Return the letters that suit an image of these sides."""
    return _font(min(11 + max(size) // 90, 48))


@lru_cache
def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    import matplotlib  # has a font with letters of many scripts, the same everywhere

    name = 'DejaVuSans-Bold.ttf' if bold else 'DejaVuSans.ttf'
    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), 'fonts', 'ttf', name)), size)
