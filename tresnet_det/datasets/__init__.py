"""Data sets: the demo digits, readers and converters, checks. Importing it registers `LoadImage`.

The converters and checks are imported from their modules, so that this stays light.
"""

from .transforms import LoadImage

__all__ = ['LoadImage']
