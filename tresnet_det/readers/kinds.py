"""The kinds of finding: how bad each is, what it is, what to do. A new check begins here."""

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
    fix: str = ''


KINDS = {
    # The config and the files as a whole.
    'bad-config': Kind(ERROR, 'settings that do not fit'),
    'num-classes': Kind(ERROR, 'heads with another number of classes than the data'),
    'not-checked': Kind(
        NOTE, 'datasets of a type that has no check', 'look at their images yourself'
    ),
    'unreadable-annotations': Kind(ERROR, 'annotation files that cannot be used'),
    'missing-file': Kind(ERROR, 'annotation files that are not found'),
    'missing-folder': Kind(ERROR, 'image folders that are not found'),
    'bad-layout': Kind(ERROR, 'names of classes or paths that cannot be used'),
    'no-training-split': Kind(ERROR, 'datasets without a part for training'),
    'left-out': Kind(NOTE, 'parts that training skips'),
    'images-not-found': Kind(ERROR, 'annotation files whose images are not found'),
    'nothing-to-learn': Kind(ERROR, 'splits without any usable annotation'),
    # Images.
    'missing-image': Kind(
        ERROR, 'images that are not in the folder', 'complete the folder, or set data_prefix.img'
    ),
    'undecodable-image': Kind(
        ERROR, 'images that do not decode', 'replace the files, or drop the entries'
    ),
    'size-differs': Kind(
        ERROR,
        'images of another size than annotated',
        'correct width and height; do the boxes fit?',
    ),
    'exif-rotated': Kind(
        ERROR, 'images that EXIF turns, annotated unturned', 'save them turned, or drop the tag'
    ),
    'exif-turned': Kind(
        NOTE,
        'images that EXIF turns, with fractions for boxes',
        'see that they are of the image as shown',
    ),
    'blank-image': Kind(WARNING, 'images of one colour', 'see whether they were exported whole'),
    'duplicate-image': Kind(
        WARNING, 'images with the pixels of another', 'keep one of each, or know why'
    ),
    'contradicting-labels': Kind(
        WARNING,
        'images with the pixels of another class',
        'decide for one, or use MultiLabelDataset',
    ),
    'same-name': Kind(
        ERROR,
        'different images of the same name',
        'rename one: a name is one image in several classes',
    ),
    'image-listed-twice': Kind(
        WARNING, 'images with several entries', 'merge the entries, and their annotations'
    ),
    'unused-file': Kind(
        NOTE, 'files next to the images that nothing names', 'annotate them, or let them be'
    ),
    # Entries and ids.
    'missing-key': Kind(
        ERROR, 'entries that lack a key', 'write it; MMDetection and pycocotools need it'
    ),
    'bad-id': Kind(
        ERROR, 'ids that are neither number nor text, or names that are no text', 'correct them'
    ),
    'bad-image': Kind(
        ERROR, 'images whose name is no text, or a side no number above 0', 'correct the entries'
    ),
    'duplicate-image-id': Kind(ERROR, 'image ids that occur more than once', 'number again'),
    'duplicate-annotation-id': Kind(
        ERROR, 'annotation ids that occur more than once', 'number again'
    ),
    'annotation-id-0': Kind(
        WARNING, 'annotations with the id 0, which pycocotools skips', 'number annotations from 1'
    ),
    'unknown-image': Kind(
        ERROR, 'annotations of an image that is not in the file', 'add the image, or drop them'
    ),
    'missing-annotation': Kind(
        ERROR, 'images whose XML file is not found', 'add the file, or take them off the list'
    ),
    'broken-xml': Kind(ERROR, 'XML files that cannot be used', 'export them again'),
    'repeated-row': Kind(ERROR, 'images that are listed again', 'remove one of the rows'),
    'bad-row': Kind(
        ERROR, 'rows of another form than the others', 'write each row like the others'
    ),
    'bad-label': Kind(
        ERROR, 'labels that are none', "write 1, 0 or -1 (unknown), or a class's name"
    ),
    # YOLO's label files.
    'bad-label-row': Kind(
        ERROR, 'label rows that are neither a box nor a polygon', 'write CLASS X Y WIDTH HEIGHT'
    ),
    'pixel-row': Kind(
        ERROR,
        'label rows with pixels in place of fractions',
        'divide by the width or height of the image',
    ),
    'bad-fraction': Kind(
        ERROR,
        'label rows with a number outside 0 to 1',
        '0 is the left or top, 1 the right or bottom',
    ),
    'unknown-class-number': Kind(
        ERROR, 'label rows with a class that has no name', 'add names: they are counted from 0'
    ),
    'missing-label-file': Kind(
        WARNING,
        'images without a label file',
        'add it, empty where there is no object, as training takes it',
    ),
    'label-without-image': Kind(
        WARNING, 'label files without an image', 'add the image, or remove them'
    ),
    'shared-label-file': Kind(
        WARNING, 'images with the label file of another', 'give each a name of its own'
    ),
    # Classes.
    'duplicate-category': Kind(
        ERROR, 'categories with the id or name of another', 'give each its own'
    ),
    'unknown-category': Kind(
        ERROR, 'annotations of a category that does not exist', 'add the category, or drop them'
    ),
    'unknown-class': Kind(ERROR, 'data with classes that are not known'),
    'no-known-class': Kind(
        ERROR, 'files without any of the classes', 'set metainfo.classes, or name other data'
    ),
    'class-order': Kind(
        ERROR, 'files of another order of categories', 'give both the same names in the same order'
    ),
    'classes-differ': Kind(
        ERROR, 'splits of other classes than the training', 'give both the same metainfo.classes'
    ),
    'single-class': Kind(
        ERROR, 'sets with one class, which leaves nothing to tell', 'add a folder for each class'
    ),
    'missing-class': Kind(
        ERROR, 'classes without a category, folder or column', 'add it, or set metainfo.classes'
    ),
    'empty-class-folder': Kind(
        ERROR, 'class folders without an image', 'fill them, or set metainfo.classes'
    ),
    'folder-no-class': Kind(
        WARNING, 'folders that are no class', 'they are skipped; set metainfo.classes to have them'
    ),
    'similar-classes': Kind(
        WARNING, 'class names that differ by case or spacing only', 'are they one class?'
    ),
    'unused-category': Kind(
        WARNING, 'classes without an example', 'they are neither learnt nor measured'
    ),
    'class-without-category': Kind(
        WARNING, 'classes that the file has no category for', 'they are neither learnt nor measured'
    ),
    'category-no-class': Kind(
        WARNING,
        'annotations of categories that are no class',
        'they are skipped; set metainfo.classes to have them',
    ),
    # Boxes.
    'bad-crowd': Kind(
        ERROR, 'annotations whose iscrowd is neither 0 nor 1', 'write 0, or 1 for a crowd'
    ),
    'bad-box': Kind(ERROR, 'boxes or areas that are no numbers', 'write [x, y, width, height]'),
    'bad-object': Kind(
        ERROR, 'objects without a name, or four numbers for a box', 'write <name>, and <bndbox>'
    ),
    'relative-boxes': Kind(
        ERROR, 'files with all boxes within [0, 1]', "multiply by the image's width and height"
    ),
    'corner-boxes': Kind(
        ERROR, 'files whose boxes are [x1, y1, x2, y2]', 'write x, y, width and height'
    ),
    'box-outside': Kind(
        ERROR, 'boxes wholly outside their image', 'training drops them, evaluation has them missed'
    ),
    'box-partly-outside': Kind(
        WARNING, 'boxes partly outside their image', 'they are clipped; see whether they fit'
    ),
    'box-without-area': Kind(
        WARNING, 'boxes without area, or a side below a pixel', 'drop them, as training does'
    ),
    'duplicate-box': Kind(
        WARNING, 'boxes that occur twice, of one class', 'drop one of each (merged twice?)'
    ),
    'no-annotation': Kind(
        NOTE, 'images without an annotation', 'background? filter_empty_gt skips them'
    ),
    # Between splits.
    'overlap': Kind(
        ERROR, 'images that are in the training split, too', 'take them out of one split'
    ),
    'near-copy': Kind(
        WARNING,
        'images that look like one of the training split',
        'are they the same, compressed again?',
    ),
}

NOT_FOUND = ('missing-file', 'missing-folder', 'missing-image', 'missing-annotation')
# Errors that a training warns of, and takes: it would not fail, but mislead.
TAKEN = ('box-outside', 'corner-boxes')
