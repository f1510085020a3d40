"""What one's own data is when a config can name it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import InputError, few
from .layouts import Layout


@dataclass(frozen=True)
class ReadySplit:
    """A split as a config names it.

    Attributes:
        ann_file: COCO's JSON, a CSV or a list of labels; None for class folders.
        folder: Of the images.
        images: How many.
        objects: Boxes, or labels of images.
        empty: Images without any.
        written: Whether ``ann_file`` was made here.
    """

    ann_file: Path | None
    folder: Path
    images: int
    objects: int
    empty: int
    written: bool = False


@dataclass(frozen=True)
class OwnData:
    """Data ready to be trained on.

    Attributes:
        layout: As it was recognised.
        classes: Names in the order of the labels.
        splits: By ``train``, ``val`` and ``test``; what is not there is absent.
        notes: What was decided or passed over, a line each.
        has_masks: Whether its objects have outlines, not only boxes.
        unit: What its objects are called.
    """

    layout: Layout
    classes: tuple[str, ...]
    splits: dict[str, ReadySplit]
    notes: list[str] = field(default_factory=list)
    has_masks: bool = False
    unit: str = 'labels'


def check_known(
    source: object, found: Sequence[str], classes: Sequence[str], who: str = 'the checkpoint'
) -> None:
    """Hold that the data has no class that is not known.

    Args:
        source: Of the data, for messages.
        found: The data's classes.
        classes: Those that are known.
        who: Knows them, for messages.

    Raises:
        InputError: It has one.
    """
    unknown = [name for name in found if name not in classes]
    if unknown:
        raise InputError(
            f'{source}: has the classes {few(unknown)}, which {who} does not know; it knows '
            f'{few(classes)}'
        )
