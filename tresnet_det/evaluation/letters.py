"""Names on charts and images are data: no markup, no control characters, letters of any script.

The font is DejaVu Sans, which comes with matplotlib. Where it lacks a letter, a font of this
machine that has it is taken; where none has, the letter's number stands for it, and a line says so.
"""

import functools
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

from ..errors import few, printable

FONTS = Path(mpl.get_data_path(), 'fonts', 'ttf')
USUAL = str(FONTS / 'DejaVuSans.ttf')
_told: set[str] = set()  # letters without a font


@functools.cache
def _letters_of(font: str) -> frozenset[int]:
    try:
        opened = FT2Font(font)
    except (OSError, RuntimeError):  # what is no font that FreeType can read
        return frozenset()
    return frozenset(opened.get_charmap()) if opened.scalable else frozenset()


@functools.cache
def _find_font(letter: str) -> Any:
    """Return matplotlib's entry of the first upright font with a letter, None where none has it."""
    # That last one has a frame for every letter there is.
    entries = [e for e in font_manager.fontManager.ttflist if not e.name.startswith('Last Resort')]
    upright = sorted(entries, key=lambda e: (e.style != 'normal', str(e.weight) != '400'))
    return next((e for e in upright if ord(letter) in _letters_of(e.fname)), None)


def _find_lacking(text: str) -> list[str]:
    usual = _letters_of(USUAL)
    return [] if text.isascii() else [c for c in dict.fromkeys(text) if ord(c) not in usual]


def _escape(text: str, letters: Iterable[str]) -> str:
    new = [c for c in letters if c not in _told and _find_font(c) is None]
    if new:
        from mmengine.logging import print_log  # takes its time, and is seldom needed

        _told.update(new)
        line = f'no font on this machine has {few(new)}: install one, such as Noto Sans CJK'
        print_log(f'{line}; \\uNUMBER is drawn in their place', 'current', logging.WARNING)
    for letter in letters:
        text = text.replace(letter, letter.encode('unicode_escape').decode('ascii'))
    return text


def fit_letters(text: str) -> tuple[str, str]:
    """Return a name as Pillow can draw it, and the file of the font that has its letters."""
    text = printable(text)
    lacking = _find_lacking(text)
    for entry in filter(None, map(_find_font, lacking)):
        if {ord(c) for c in text} <= _letters_of(entry.fname):
            return text, entry.fname
    return _escape(text, lacking), USUAL


def label(text: str) -> str:
    """Return a name as matplotlib draws it as it is, within :func:`lettering`."""
    text = printable(text)
    text = _escape(text, [c for c in _find_lacking(text) if _find_font(c) is None])
    # What begins with an underscore is no entry of a legend, and what is between dollars is maths.
    return ('\u2009' * text.startswith('_') + text).replace('$', r'\$')


@contextmanager
def lettering(texts: Iterable[str]) -> Iterator[None]:
    """Let matplotlib draw these names by fonts that have their letters."""
    found = map(_find_font, _find_lacking(''.join(map(printable, texts))))
    families = dict.fromkeys(entry.name for entry in found if entry)
    with mpl.rc_context({'font.family': ['DejaVu Sans', *families]}):
        yield
