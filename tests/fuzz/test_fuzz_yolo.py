"""Any label file and data.yaml of YOLO's: its boxes come out, or one line says what is wrong."""

import json
import math
from collections import Counter

import fuzz_mutations as fuzz
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tresnet_det.readers.layouts import find_layout

ROWS = b'0 0.5 0.5 1 1\n1 0.25 0.5 0.5 0.2\n0 0.1 0.1 0.9 0.1 0.9 0.9\n'
YAML = {'path': '.', 'train': 'images/train', 'val': 'images/val', 'nc': 2, 'names': ['cat', 'dog']}
NUMBERS = (
    '', '0', '1', '2', '-1', '0.5', '0.999', '1.005', '1.5', '40', '1e3', '1e-9', 'nan', 'inf',
    '-0.0', '0,5', 'cat', '1_0', '٣', '0x1', '9' * 400, '1e400', '\0', 'ü',
)  # fmt: skip
BOMB = 'a: &a [x, x, x, x, x, x, x, x, x]\n' + ''.join(
    f'{b}: &{b} [{", ".join([f"*{a}"] * 9)}]\n' for a, b in zip('abcdefgh', 'bcdefghi', strict=True)
)


@st.composite
def label_files(draw):
    if draw(st.integers(0, 2)) == 0:
        return draw(fuzz.broken_bytes(ROWS))
    rows = [line.split() for line in ROWS.decode().splitlines()]
    for _ in range(draw(st.integers(0, 3))):
        row = draw(st.sampled_from(rows))
        at = draw(st.integers(0, len(row) - 1)) if row else 0
        action = draw(st.sampled_from(('value', 'value', 'drop', 'more')))
        if action == 'value' and row:
            row[at] = draw(st.sampled_from(NUMBERS))
        elif action == 'drop':
            del row[at:]
        else:
            row.insert(at, draw(st.sampled_from(NUMBERS)))
    return '\n'.join(map(' '.join, rows)).encode('utf-8', 'surrogatepass')


@st.composite
def yaml_files(draw):
    if draw(st.booleans()):
        tree = draw(fuzz.broken_trees(YAML, most=2))
        return yaml.safe_dump(tree, allow_unicode=draw(st.booleans())).encode('utf-8', 'replace')
    text = yaml.safe_dump(YAML)
    name = draw(st.sampled_from('abi'))
    more = (
        'names: *' + name, 'train: *' + name, f'nc: *{name}', 'names: {*a : *a}',
        'names: !!python/name:os.system', 'names: {0: cat, 1: cat}', 'names: [1, 1.0, yes]',
        'names: {0: cat, 1: [dog]}', 'names: 2024-01-01', 'train: [images/train, images/train]',
        'path: [1]', 'names: {.nan: a}', '? [a, b]\n: c', f'names: [0x{"f" * 5000}]',
        f'nc: 0x{"f" * 5000}',
    )  # fmt: skip
    if draw(st.booleans()):
        return (BOMB + text + draw(st.sampled_from(more)) + '\n').encode()
    return draw(fuzz.broken_bytes(text.encode()))


def lay_out(root, rows=ROWS, data=None, how='file', label_how='file'):
    for split, name in (('train', 'a'), ('train', 'b'), ('val', 'c')):
        fuzz.place(root / f'images/{split}/{name}.png', fuzz.IMAGE, 'file')
        if name != 'a':
            fuzz.place(root / f'labels/{split}/{name}.txt', ROWS, 'file')
    fuzz.place(root / 'labels/train/a.txt', rows, label_how)
    fuzz.place(root / 'data.yaml', data if data is not None else yaml.safe_dump(YAML).encode(), how)


def reference(data):
    """Return (class, box in pixels) of every row, clipped; a row without area has none."""
    boxes = []
    for line in data.decode('utf-8-sig').splitlines():
        if not line.split():
            continue
        label, *v = map(float, line.split())
        if len(v) == 4:
            v = [v[0] - v[2] / 2, v[1] - v[3] / 2, v[0] + v[2] / 2, v[1] + v[3] / 2]
        edges = min(v[0::2]), min(v[1::2]), max(v[0::2]), max(v[1::2])
        x0, y0, x1, y1 = (
            round(min(max(e, 0), 1) * side, 3) for e, side in zip(edges, (40, 30) * 2, strict=True)
        )
        if x1 > x0 and y1 > y0:
            boxes.append((int(label), (x0, y0, round(x1 - x0, 3), round(y1 - y0, 3))))
    return Counter(boxes)


def read(split):
    content = json.loads(split.ann_file.read_bytes())
    large = sum(min(a['bbox'][2:]) >= 1 for a in content['annotations'])  # after clipping
    assert large <= split.counts.num_objects <= len(content['annotations'])
    return Counter((a['category_id'] - 1, tuple(a['bbox'])) for a in content['annotations'])


@given(label_files(), st.sampled_from(fuzz.PLACE_FAULTS))
def test_fuzz_yolo_label_files(data, how):
    with fuzz.folder() as root, fuzz.folder() as out:
        lay_out(root, data, label_how=how)
        result = fuzz.attempt(lambda: fuzz.prepare(root, out), 'a.txt')
        report = fuzz.inspect(root)
        if result is None:
            assert report.failed
            assert not any(out.iterdir())
            return
        rows = data if how == 'file' else b''
        assert read(result.splits['train']) == reference(rows) + reference(ROWS)
        assert read(result.splits['val']) == reference(ROWS)


@given(yaml_files(), st.sampled_from(fuzz.PLACE_FAULTS))
def test_fuzz_yolo_data_yaml(data, how):
    with fuzz.folder() as root, fuzz.folder() as out:
        lay_out(root, data=data, how=how)
        (root / 'labels/classes.txt').write_text('cat\ndog\n')  # what serves where there is no YAML
        result = fuzz.attempt(lambda: fuzz.prepare(root, out), root, '/etc/passwd')
        report = fuzz.inspect(root)
        if result is None:
            # A part to measure on alone is checked, and not trained on.
            assert report is None or report.failed or 'train' not in find_layout(root, None).splits
            return
        names = ['cat', 'dog']
        if how == 'file' and result.layout.sign.name == 'data.yaml':
            names = yaml.safe_load(data.decode('utf-8-sig'))['names']
            names = [names[i] for i in range(len(names))]
            assert all(type(name) in (str, int) for name in names)
        assert list(result.classes) == [str(name) for name in names]
        assert len(set(result.classes)) == len(result.classes)
        total = sum((read(split) for split in result.splits.values()), Counter())
        seen = {split.counts.num_images for split in result.splits.values()}
        assert total.total() >= 3
        assert all(count in (1, 2, 3) for count in seen)
        assert math.isfinite(sum(b[1][2] for b in total))


@given(fuzz.broken_bytes(b'cat\ndog\n'), st.sampled_from(fuzz.PLACE_FAULTS))
def test_fuzz_yolo_classes_txt(data, how):
    with fuzz.folder() as root, fuzz.folder() as out:
        lay_out(root, how='absent')
        fuzz.place(root / 'classes.txt', data, how)
        result = fuzz.attempt(lambda: fuzz.prepare(root, out), root)
        fuzz.inspect(root)
        if result is not None:
            lines = data.decode('utf-8-sig').splitlines()
            assert list(result.classes) == [line.strip() for line in lines if line.strip()]


def test_a_link_that_leads_back_gives_no_image_twice():
    with fuzz.folder() as root, fuzz.folder() as out:
        lay_out(root)
        (root / 'images/train/again').symlink_to('..')
        (root / 'images/train/all').symlink_to(root)
        result = fuzz.prepare(root, out)
        assert result.splits['train'].counts.num_images == 2
        assert read(result.splits['train']) == reference(ROWS) + reference(ROWS)
