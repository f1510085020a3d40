"""Small datasets of labels, CSV and class folders, without a fault, and faults to plant."""

import shutil

from planted_coco import Written, save_image

CSV = 'file,cat,dog\na.png,1,0\nb.png,0,1\nc.png,-1,1\n'


class Csv(Written):
    """Three images to learn from, one to measure on; two classes."""

    def __init__(self, root):
        self.root = root
        for seed, name in enumerate('abcv'):
            save_image(root / f'images/{name}.png', seed)
        self.say(CSV)
        (root / 'val.csv').write_text('file,cat,dog\nv.png,1,1\n')

    def say(self, text):
        (self.root / 'train.csv').write_text(text)


def csv_fault(text, **expected):
    found = {('train', code.replace('_', '-')): count for code, count in expected.items()}
    if 'unreadable_annotations' in expected:  # its images are now nobody's
        found['val', 'unused-file'] = 3
    return lambda csv: csv.say(text), found


CSV_PLANTS = {
    'clean': (lambda csv: None, {}),
    'tags in a list': csv_fault('file,Tags\na.png,cat;dog\nb.png,dog\nc.png,cat\n'),
    'labels in a list': csv_fault('file,label\na.png,cat;dog\nb.png,dog\nc.png,cat\n'),
    **{
        f'labels joined by {mark!r}': csv_fault(
            f'file,label\na.png,"cat{mark}dog"\nb.png,dog\nc.png,cat\n', filled_in=1
        )
        for mark in ('|', ',', ', ', ' ', ' | ', '/', ' & ', '\xa0', '、')
    },
    'lists as Python writes them': csv_fault(
        "file,label\na.png,\"['cat', 'dog']\"\nb.png,['dog']\nc.png,[cat]\n", filled_in=1
    ),
    'labels joined by a space, none alone': (
        lambda csv: csv.say('file,label\na.png,cat dog\nb.png,dog cow\nc.png,cow cat\n'),
        {('train', 'joined-labels'): 3, ('val', 'missing-class'): 3, ('val', 'no-annotation'): 1},
    ),
    'labels joined, of classes found nowhere else': (
        lambda csv: (
            csv.say('file,label\na.png,cat|cow\nb.png,dog\nc.png,cat\n'),
            (csv.root / 'val.csv').write_text('file,label\nv.png,cat\n'),
        ),
        {('train', 'joined-labels'): 1, ('val', 'unused-category'): 2},
    ),
    'a class of two words': (
        lambda csv: (
            csv.say('file,label\na.png,polar bear\nb.png,dog\nc.png,cat\n'),
            (csv.root / 'val.csv').write_text('file,label\nv.png,cat\n'),
        ),
        {('val', 'unused-category'): 2},
    ),
    'row too short': csv_fault(
        CSV.replace('1,0', '1'), bad_row=1, unused_file=1, unused_category=1
    ),
    'value that is none': csv_fault(CSV.replace('-1,1', 'yes,1'), bad_label=1),
    'image twice': csv_fault(CSV + 'a.png,1,0\n', repeated_row=1),
    'image that does not exist': csv_fault(CSV + 'd.png,1,0\n', missing_image=1),
    'image without label': csv_fault(CSV.replace('-1,1', '0,0'), no_annotation=1),
    'no header': csv_fault(CSV[CSV.index('\n') + 1 :], unreadable_annotations=1),
    'open quotes': csv_fault(CSV + '"c.png', unreadable_annotations=1),
    'no row': csv_fault('file,label\n', unreadable_annotations=1),
    'semicolons between cells': (lambda csv: csv.say(CSV.replace(',', ';')), {}),
    'tabs between cells': (lambda csv: csv.say(CSV.replace(',', '\t')), {}),
    'a column without a name': csv_fault(CSV.replace('dog', ''), unreadable_annotations=1),
    'nothing': csv_fault('', unreadable_annotations=1),
    'no label at all': csv_fault(
        'file,cat,dog\na.png,0,0\nb.png,0,0\nc.png,0,0\n', nothing_to_learn=1
    ),
    'column twice': (
        lambda csv: csv.say(CSV.replace('dog', 'cat')),
        {('train', 'duplicate-category'): 1, ('train', 'no-annotation'): 2},
    ),
    'validation lacks a class': (
        lambda csv: (csv.root / 'val.csv').write_text('file,cat\nv.png,1\n'),
        {('val', 'missing-class'): 1},
    ),
    'validation has a label more': (
        lambda csv: (csv.root / 'val.csv').write_text('file,label\nv.png,cat;cow\n'),
        {('val', 'bad-label'): 1, ('val', 'unused-category'): 1},
    ),
}


class Folders(Written):
    """Two images of each of two classes to learn from, and two to measure on."""

    def __init__(self, root):
        self.root = root
        pairs = [(split, name) for split in ('train', 'val') for name in ('cat', 'dog')]
        for seed, (split, name) in enumerate(pairs):
            for i in range(2):
                save_image(root / split / name / f'{i}.png', [seed, i])


def empty(folders, split):
    shutil.rmtree(folders.root / f'{split}/dog')
    (folders.root / f'{split}/dog').mkdir()


FOLDER_PLANTS = {
    'clean': (lambda f: None, {}),
    'empty': (lambda f: empty(f, 'val'), {('val', 'empty-class-folder'): 1}),
    'one class': (
        lambda f: [shutil.rmtree(f.root / f'{s}/dog') for s in ('train', 'val')],
        {('train', 'single-class'): 1, ('val', 'single-class'): 1},
    ),
    'other classes': (
        lambda f: (f.root / 'val/dog').rename(f.root / 'val/cow'),
        {('val', 'unknown-class'): 1, ('val', 'missing-class'): 1, ('val', 'folder-no-class'): 1},
    ),
    'class less': (lambda f: shutil.rmtree(f.root / 'val/dog'), {('val', 'missing-class'): 1}),
    'broken': (
        lambda f: (f.root / 'val/dog/0.png').write_text('x'), {('val', 'undecodable-image'): 1}
    ),
    'under two classes': (
        lambda f: shutil.copy(f.root / 'train/dog/0.png', f.root / 'train/cat/2.png'),
        {('train', 'contradicting-labels'): 1},
    ),
    'no image by its name': (
        lambda f: (f.root / 'train/dog/notes.txt').write_text('x'), {('train', 'unused-file'): 1}
    ),
    'in both splits': (
        lambda f: shutil.copy(f.root / 'train/dog/0.png', f.root / 'val/dog/0.png'),
        {('val', 'overlap'): 1},
    ),
}  # fmt: skip
