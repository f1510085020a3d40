"""The kinds of finding: how bad each is, what it is, what to do. A new check begins here."""

import re
from collections.abc import Iterator
from typing import NamedTuple

ERROR, WARNING, NOTE = LEVELS = ('error', 'warning', 'note')


class Kind(NamedTuple):
    """A kind of finding.

    Attributes:
        level: ``'error'`` where training would fail or its metrics mislead, ``'warning'`` where
            something is lost or doubtful, ``'note'`` for a fact worth knowing.
        what: What is found, in the plural.
        fix: What to do; empty where each example says all of it itself.
    """

    level: str
    what: str
    fix: str


# On each line ``CODE: WHAT -> FIX``; a line that is indented continues the one before it.
ERRORS = """
bad-config: settings that do not fit
num-classes: heads with another number of classes than the data
unreadable-annotations: annotation files that cannot be used
missing-file: annotation files that are not found
missing-folder: image folders that are not found
bad-layout: names of classes or paths that cannot be used
no-training-split: datasets without a part for training
images-not-found: annotation files whose images are not found
nothing-to-learn: splits without any usable annotation
missing-image: images that are not in the folder -> complete the folder, or set data_prefix.img
undecodable-image: images that do not decode -> replace the files, or drop the entries
size-differs: images of another size than annotated -> correct width and height; do the boxes fit?
exif-rotated: images that EXIF turns, annotated unturned -> save them turned, or drop the tag
same-name: different images of the same name -> rename one: a name is one image in several classes
missing-key: entries that lack a key -> write it; MMDetection and pycocotools need it
bad-id: ids that are neither number nor text, or names that are no text -> correct them
bad-image: images whose name is no text, or a side no number above 0 -> correct the entries
duplicate-image-id: image ids that occur more than once -> number again
duplicate-annotation-id: annotation ids that occur more than once -> number again
unknown-image: annotations of an image that is not in the file -> add the image, or drop them
missing-annotation: images whose XML file is not found -> add the file, or take them off the list
broken-xml: XML files that cannot be used -> export them again
repeated-row: images that are listed again -> remove one of the rows
bad-row: rows of another form than the others -> write each row like the others
bad-label: labels that are none -> write 1, 0 or -1 (unknown), or a class's name
bad-label-row: label rows that are neither a box nor a polygon -> write CLASS X Y WIDTH HEIGHT
pixel-row: label rows with pixels in place of fractions -> divide by the width or height of the
    image
bad-fraction: label rows with a number outside 0 to 1 -> 0 is the left or top, 1 the right or bottom
unknown-class-number: label rows with a class that has no name -> add names: they are counted from 0
duplicate-category: categories with the id or name of another -> give each its own
unknown-category: annotations of a category that does not exist -> add the category, or drop them
unknown-class: data with classes that are not known
no-known-class: files without any of the classes -> set metainfo.classes, or name other data
class-order: files of another order of categories -> give both the same names in the same order
classes-differ: splits of other classes than the training -> give both the same metainfo.classes
single-class: sets with one class, which leaves nothing to tell -> add a folder for each class
missing-class: classes without a category, folder or column -> add it, or set metainfo.classes
empty-class-folder: class folders without an image -> fill them, or set metainfo.classes
bad-crowd: annotations whose iscrowd is neither 0 nor 1 -> write 0, or 1 for a crowd
bad-box: boxes or areas that are no numbers -> write [x, y, width, height]
bad-object: objects without a name, or four numbers for a box -> write <name>, and <bndbox>
relative-boxes: files with all boxes within [0, 1] -> multiply by the image's width and height
corner-boxes: files whose boxes are [x1, y1, x2, y2] -> write x, y, width and height
box-outside: boxes wholly outside their image -> training drops them, evaluation has them missed
overlap: images that are in the training split, too -> take them out of one split
"""

WARNINGS = """
blank-image: images of one colour -> see whether they were exported whole
duplicate-image: images with the pixels of another -> keep one of each, or know why
contradicting-labels: images with the pixels of another class -> decide for one, or use
    MultiLabelDataset
image-listed-twice: images with several entries -> merge the entries, and their annotations
annotation-id-0: annotations with the id 0, which pycocotools skips -> number annotations from 1
missing-label-file: images without a label file -> add it, empty where there is no object, as
    training takes it
label-without-image: label files without an image -> add the image, or remove them
shared-label-file: images with the label file of another -> give each a name of its own
folder-no-class: folders that are no class -> they are skipped; set metainfo.classes to have them
similar-classes: class names that differ by case or spacing only -> are they one class?
unused-category: classes without an example -> they are neither learnt nor measured
class-without-category: classes that the file has no category for -> they are neither learnt nor
    measured
category-no-class: annotations of categories that are no class -> they are skipped; set
    metainfo.classes to have them
box-partly-outside: boxes partly outside their image -> they are clipped; see whether they fit
box-without-area: boxes without area, or a side below a pixel -> drop them, as training does
duplicate-box: boxes that occur twice, of one class -> drop one of each (merged twice?)
near-copy: images that look like one of the training split -> are they the same, compressed again?
"""

NOTES = """
not-checked: datasets of a type that has no check -> look at their images yourself
left-out: parts that training skips
exif-turned: images that EXIF turns, with fractions for boxes -> see that they are of the image as
    shown
unused-file: files next to the images that nothing names -> annotate them, or let them be
no-annotation: images without an annotation -> background? filter_empty_gt skips them
"""


def _read(level: str, table: str) -> Iterator[tuple[str, Kind]]:
    for entry in re.split(r'\n(?=\S)', table.strip()):
        code, _, text = ' '.join(entry.split()).partition(': ')
        what, _, fix = text.partition(' -> ')
        yield code, Kind(level, what, fix)


KINDS = dict([*_read(ERROR, ERRORS), *_read(WARNING, WARNINGS), *_read(NOTE, NOTES)])
NOT_FOUND = ('missing-file', 'missing-folder', 'missing-image', 'missing-annotation')
# Errors that a training warns of, and takes: it would not fail, but mislead.
TAKEN = ('box-outside', 'corner-boxes')
