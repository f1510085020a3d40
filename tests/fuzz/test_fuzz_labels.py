"""Any CSV, list of labels or folder of classes: its labels come out, or one line says why not."""

import csv
import io
import os

import fuzz_mutations as fuzz
from hypothesis import given
from hypothesis import strategies as st

from tresnet_det.datasets import ImageFolderDataset, MultiLabelDataset
from tresnet_det.readers.config import check_classification
from tresnet_det.readers.data import read_strictly
from tresnet_det.readers.split import Source

LISTS = b'file,label\na.png,cat;dog\nb.png,\nsub/c.png,dog\n'
COLUMNS = b'file,cat,dog\na.png,1,0\nb.png,-1,1\nsub/c.png,0,0\n'
NAMES = b'a.png cat\nb.png dog\nsub/c.png cat\n'
CELLS = (
    '', ' ', '1', '0', '-1', '2', '1.0', 'nan', 'cat', 'dog', 'cat;cat', ';', '"', '"a', '""',
    'a\nb', ',', 'a.png', '../a.png', '/etc/passwd', 'a.png ', 'ü', '\0', '9' * 30, '٣', 'x' * 300,
    'label',
)  # fmt: skip


@st.composite
def tables(draw, table, between=','):
    if draw(st.integers(0, 2)) == 0:
        return draw(fuzz.broken_bytes(table))
    rows = [line.split(between) for line in table.decode().splitlines()]
    for _ in range(draw(st.integers(0, 3))):
        row = draw(st.sampled_from(rows))
        at = draw(st.integers(0, max(len(row) - 1, 0)))
        action = draw(st.sampled_from(('value', 'value', 'drop', 'more', 'twice')))
        if action == 'value' and row:
            row[at] = draw(st.sampled_from(CELLS))
        elif action == 'drop':
            del row[at:]
        elif action == 'twice':
            rows.append(list(row))
        else:
            row.insert(at, draw(st.sampled_from(CELLS)))
    return '\n'.join(map(between.join, rows)).encode()


def lay_out(root, name, data, how):
    for image in ('a.png', 'b.png', 'sub/c.png'):
        fuzz.place(root / image, fuzz.IMAGE, 'file')
    fuzz.place(root / name, data, how)
    return root / name


def reference_csv(data):
    """Return (image, class, value) of all that is known, by Python's csv module alone."""
    rows = [
        r
        for r in csv.reader(io.StringIO(data.decode('utf-8-sig'), newline=''))
        if any(map(str.strip, r))
    ]
    header, *rows = [[cell.strip() for cell in row] for row in rows]
    if len(header) == 2 and header[1].lower() in ('label', 'labels'):
        pairs = [(row[0], name.strip(), 1) for row in rows for name in row[1].split(';')]
        return [row[0] for row in rows], {pair for pair in pairs if pair[1]}
    return [row[0] for row in rows], {
        (row[0], name, int(float(value)))
        for row in rows
        for name, value in zip(header[1:], row[1:], strict=True)
        if float(value)
    }


def read(kind, file, root):
    split, _ = read_strictly(Source('train', kind, file, root, several=kind != 'list'))
    return split.files, split.matrix(), split.classes


def triples(names, labels, classes):
    return {
        (names[i], classes[j], int(labels[i, j])) for i, j in zip(*labels.nonzero(), strict=True)
    }


@given(st.one_of(tables(LISTS), tables(COLUMNS)), st.sampled_from(fuzz.PLACE_FAULTS))
def test_fuzz_csv(data, how):
    with fuzz.folder() as root:
        file = lay_out(root, 'train.csv', data, how)
        result = fuzz.attempt(lambda: read('csv', file, root), file)
        report = fuzz.inspect(root, file)
        settings = dict(
            type='MultiLabelDataset', data_root=str(root), ann_file='train.csv', filter_empty=False
        )
        fuzz.attempt(
            lambda: check_classification(dict(train=settings), None), file, 'MultiLabelDataset'
        )
        if result is None:
            assert report is None or report.failed
            return
        names, labels, classes = result
        assert (names, triples(names, labels, classes)) == reference_csv(data)
        kept = fuzz.attempt(lambda: MultiLabelDataset(str(root), 'train.csv', pipeline=[]), file)
        if kept is not None:
            assert len(kept) == (labels == 1).any(1).sum() > 0


def test_a_csv_of_many_columns_is_read_in_a_moment(tmp_path):
    names = [f'class {i}' for i in range(20_000)]
    rows = [['file', *names], ['a.png', *'0' * len(names)], ['b.png', '1', *'0' * len(names[1:])]]
    file = lay_out(tmp_path, 'val.csv', '\n'.join(map(','.join, rows)).encode(), 'file')
    _, labels, classes = fuzz.attempt(lambda: read('csv', file, tmp_path))
    assert list(classes) == names
    assert labels.sum() == labels[1, 0] == 1


@given(tables(NAMES, ' '), st.sampled_from(fuzz.PLACE_FAULTS))
def test_fuzz_list_of_labels(data, how):
    with fuzz.folder() as root:
        file = lay_out(root, 'val.txt', data, how)
        result = fuzz.attempt(lambda: read('list', file, root), file)
        report = fuzz.inspect(root, file)
        fuzz.attempt(lambda: ImageFolderDataset(str(root), 'val.txt', pipeline=[]), file)
        if result is None:
            assert report is None or report.failed
            return
        names, labels, classes = result
        rows = [
            line.rsplit(maxsplit=1)
            for line in data.decode('utf-8-sig').splitlines()
            if line.strip()
        ]
        assert [(n, classes[label]) for n, label in zip(names, labels.argmax(1), strict=True)] == [
            (name.strip(), str(int(label)) if classes[0] == '0' and label.isdecimal() else label)
            for name, label in rows
        ]


PLACES = (
    'cat/a.png', 'cat/b.PNG', 'dog/a.png', 'dog/deep/er/c.png', 'dog/.hidden.png', 'dog/note.txt',
    '.git/x.png', 'cow/', 'top.png', 'ü/ä.png', 'a b/c d.png', 'cat/x.png/y.png', 'cat/a.png.tmp',
    '0/1.png',
)  # fmt: skip
# To a folder above, to itself, to nothing: none of them has an image of its own.
LINKS = (('cat/again', '..'), ('dog/self', 'self'), ('dog/gone', 'nowhere'), ('loop', '.'))


@given(st.sets(st.sampled_from(PLACES)), st.sets(st.sampled_from(LINKS)), st.booleans())
def test_fuzz_class_folders(places, links, distinct):
    with fuzz.folder() as root, fuzz.folder() as out:
        for number, name in enumerate(sorted(places)):
            if name.endswith('/'):
                (root / name).mkdir(parents=True, exist_ok=True)
            else:
                fuzz.place(root / name, fuzz.IMAGE + b'%d' % (number if distinct else 0), 'file')
        for name, target in sorted(links):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            os.symlink(target, root / name)
        images = {
            tuple(name.split('/', 1)) for name in places
            if '/' in name and name.lower().endswith('.png') and '/.' not in f'/{name}'
        }  # fmt: skip
        one = fuzz.attempt(lambda: ImageFolderDataset(str(root), pipeline=[]), root)
        if one is not None:
            found = {
                (one.metainfo['classes'][n], one.img_path(i)) for i, n in enumerate(one.gt_labels)
            }
            assert len(one) == len(found)
            assert found == {(c, str(root / c / name)) for c, name in images}
        several = fuzz.attempt(lambda: read('folders', root, root), root)
        if several is not None:
            names, labels, classes = several
            found = {(c, n.partition('/')[2]) for n, c, _ in triples(*several)}
            assert found == images
        for task in ('classification', 'multilabel'):
            fuzz.attempt(lambda task=task: fuzz.prepare(root, out, task), root)
        fuzz.inspect(root, root)
