"""What the readers of named objects share: from classes and corners to a split."""

from collections.abc import Collection, Sequence

import numpy as np

from .findings import Add
from .split import Boxes, Source, Split

# Its image's number, where it is, its class, left, top, right and bottom, whether it is ignored.
Object = tuple[int, str, str, Sequence[float], bool]


def object_split(
    source: Source,
    add: Add,
    files: list[str],
    sizes: Sequence[tuple[float, float]],
    objects: Sequence[Object],
    bad: Sequence[str],
    filled: Collection[int],
    named: Collection[str],
    last: int = 0,
) -> Split:
    """Return a split of named objects; its classes are their names, sorted.

    Args:
        source: Where it is from.
        add: Gets classes that are not known, and objects that are none.
        files: The images.
        sizes: Width and height that are said of each image, NaN where nothing is.
        objects: With corners in pixels.
        bad: Lines about objects that are none.
        filled: Images with any object, good or bad.
        named: All files that the annotations name.
        last: 1 where pixels are counted from 1, and the last one belongs to the box.
    """
    add('bad-object', bad, total=len(objects) + len(bad))
    columns = zip(*objects, strict=True) if objects else [[]] * 5
    rows, wheres, labels, edges, ignored = map(list, columns)
    own = tuple(sorted(set(labels)))
    number = {name: i for i, name in enumerate(own)}
    classes = source.classes or own
    add('unknown-class', source.find_unknown(own))
    known = set(classes)
    no_class = [i for i, label in enumerate(labels) if label not in known]
    add('category-no-class', no_class, wheres.__getitem__, len(objects) + len(bad))
    corners = np.array(edges, np.float64).reshape(-1, 4)
    xywh = np.hstack([corners[:, :2] - last, corners[:, 2:] - corners[:, :2] + last])
    click = (corners[:, 2:] <= corners[:, :2]).any(1)
    split = Split(
        source,
        source.folder,
        own,
        files,
        np.array(rows, np.int64),
        np.array([number[label] for label in labels], np.int64),
        wheres.__getitem__,
        np.isin(np.arange(len(files)), list(filled)),
        np.array(sizes, np.float64).reshape(-1, 2),
        named,
        boxes=Boxes(xywh, np.where(click, 0, xywh[:, 2:].prod(1)), np.array(ignored, bool)),
    )
    return split.renumber(classes)
