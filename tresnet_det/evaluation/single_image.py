"""One image with what was found drawn on it or written beneath it, for files and for video.

Drawn by Pillow, and masks by OpenCV, which keep the image's pixels and are quick enough for every
frame of a video; a figure of matplotlib does neither.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont
from pycocotools import mask as masks_of_coco

# Okabe and Ito's palette, told apart with every kind of colour vision; a class keeps its colour.
COLOURS = ('#56B4E9', '#E69F00', '#009E73', '#F0E442', '#CC79A7', '#D55E00', '#0072B2')
DARK = ('#D55E00', '#0072B2', '#009E73')  # white letters on these, black ones on the others
FILL = 0.45  # of a mask's colour; the rest is the image's
SMALLEST = 400  # pixels of the longer side; a smaller image is enlarged, or no text would fit


def draw_boxes(
    image: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray,
    scores: np.ndarray,
    class_names: Sequence[str],
    masks: Sequence[dict] | None = None,
) -> np.ndarray:
    """Draw boxes with class and score on an image, above the masks where there are any.

    Args:
        image: ``(H, W, 3)`` of uint8 in RGB; it is not changed.
        boxes: ``(N, 4)``, x1 y1 x2 y2 in the image's pixels; one of zeros is not drawn.
        labels: ``(N,)``, class numbers.
        scores: ``(N,)``, in [0, 1].
        class_names: Name of each class.
        masks: N codes of pycocotools, of the image's size.

    Returns:
        An image as given, enlarged by a whole factor where its longer side is under ``SMALLEST``.
    """
    canvas, factor = _enlarged(image)
    longest = max(canvas.size)
    width, font = max(2, round(longest / 400)), _font(longest // 36)
    boxes = np.asarray(boxes, dtype=float).reshape(-1, 4) * factor
    order = np.argsort(scores).tolist()  # the surest on top
    if masks is not None:
        pixels = np.array(canvas)
        for n in order:
            _paint_mask(pixels, masks[n], factor, _colour(labels[n]), max(2, width // 2))
        canvas = Image.fromarray(pixels)
    draw = ImageDraw.Draw(canvas)
    order = [n for n in order if boxes[n].any()]
    for n in order:
        x1, y1 = boxes[n, :2]
        x2, y2 = np.maximum(boxes[n, 2:] - 1, boxes[n, :2])  # the last pixel inside
        draw.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline='black', width=width + 2)
        draw.rectangle((x1, y1, x2, y2), outline=_colour(labels[n]), width=width)
    for n in order:  # names above all boxes
        _write_name(draw, boxes[n], f'{class_names[labels[n]]} {scores[n]:.2f}', labels[n], font)
    return np.asarray(canvas)


def draw_classes(
    image: np.ndarray, lines: Sequence[tuple[str, float]], rows: int | None = None
) -> np.ndarray:
    """Write classes with their scores, and a bar as long as the score, beneath an image.

    Args:
        image: ``(H, W, 3)`` of uint8 in RGB; it is not changed.
        lines: Name and score in [0, 1] of each class; without any, it says so.
        rows: How many lines there is room for, so that a video's frames are of one size; further
            ones are counted in the last. None for as many as there are.

    Returns:
        ``(H', W', 3)`` of uint8 in RGB, the image on top of the text.
    """
    canvas, _ = _enlarged(image)
    font = _font(max(canvas.size) // 24)
    height = round(font.size * 1.5)
    rows = max(1, len(lines) if rows is None else rows)
    width = max(canvas.width, 16 * round(font.size))  # room for a name beneath a narrow image
    sheet = Image.new('RGB', (width, canvas.height + rows * height + height // 2), 'white')
    sheet.paste(canvas)
    draw = ImageDraw.Draw(sheet)
    shown = list(lines if len(lines) <= rows else lines[: rows - 1])
    gap = height // 4
    y = canvas.height + gap
    for name, score in shown:
        _write_line(draw, name, score, (gap, y, sheet.width - gap, y + height - 2), font)
        y += height
    rest = len(lines) - len(shown)
    if not lines or rest:
        text = f'and {rest} more' if rest else 'no label'
        draw.text((2 * gap, y + height / 2), text, fill='#606060', font=font, anchor='lm')
    return np.asarray(sheet)


def _paint_mask(pixels: np.ndarray, code: dict, factor: int, colour: str, width: int) -> None:
    """Tint a mask's pixels and draw its edge, dark on both sides like a box's."""
    x, y, w, h = masks_of_coco.toBbox(code).astype(int)
    if not w:  # a mask without a pixel
        return
    mask = masks_of_coco.decode(code)[y : y + h, x : x + w]
    mask = mask.repeat(factor, 0).repeat(factor, 1)
    part = pixels[y * factor : (y + h) * factor, x * factor : (x + w) * factor]
    rgb = ImageColor.getrgb(colour)
    tint = cv2.addWeighted(part, 1 - FILL, np.full_like(part, rgb), FILL, 0)
    np.copyto(part, tint, where=mask[..., None] > 0)
    edges, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    place = (x * factor, y * factor)
    for shade, thickness in (((0, 0, 0), width + 2), (rgb, width)):
        cv2.drawContours(pixels, edges, -1, shade, thickness, cv2.LINE_AA, offset=place)


def _write_name(
    draw: ImageDraw.ImageDraw, box: np.ndarray, text: str, label: int, font: ImageFont.FreeTypeFont
) -> None:
    """Write above a box, or into it where there is no room above, always inside the image."""
    _, _, width, height = font.getbbox(text)
    width, height = width + 4, height + 4
    x = max(min(box[0], draw.im.size[0] - width), 0)
    y = box[1] - height if box[1] >= height else max(box[1], 0)
    draw.rectangle((x, y, x + width, y + height), fill=_colour(label))
    letters = 'white' if _colour(label) in DARK else 'black'
    draw.text((x + 2, y + 2), text, fill=letters, font=font)


def _write_line(
    draw: ImageDraw.ImageDraw,
    name: str,
    score: float,
    place: tuple[int, int, int, int],
    font: ImageFont.FreeTypeFont,
) -> None:
    left, top, right, bottom = place
    middle = (top + bottom) / 2
    end = right - round(2.6 * font.size)  # of the bar; the score stands right of it
    filled = left + (end - left) * min(max(score, 0), 1)
    draw.rectangle((left, top, filled, bottom), fill='#A9D8F3')
    draw.rectangle((left, top, end, bottom), outline='#56B4E9')
    text, room = name, end - left - font.size
    while len(text) > 1 and font.getlength(text) > room:
        text = f'{text.rstrip("…")[:-1]}…'
    draw.text((left + font.size / 2, middle), text, fill='black', font=font, anchor='lm')
    draw.text((right, middle), f'{score:.2f}', fill='black', font=font, anchor='rm')


def _enlarged(image: np.ndarray) -> tuple[Image.Image, int]:
    """The image with at least ``SMALLEST`` pixels, and the factor."""
    canvas = Image.fromarray(np.ascontiguousarray(image))
    factor = max(1, round(SMALLEST / max(canvas.size)))
    if factor > 1:  # with pixels that can be counted
        canvas = canvas.resize([side * factor for side in canvas.size], Image.Resampling.NEAREST)
    return canvas, factor


def _colour(label: int) -> str:
    return COLOURS[int(label) % len(COLOURS)]


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    import matplotlib  # brings a font with letters of many scripts, the same everywhere

    path = Path(matplotlib.get_data_path(), 'fonts', 'ttf', 'DejaVuSans.ttf')
    return ImageFont.truetype(str(path), min(max(size, 11), 48))
