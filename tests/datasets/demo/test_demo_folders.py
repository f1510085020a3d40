"""What both kinds of demo data have in common: whole or not at all, reused, never overwritten."""

import hashlib
from functools import partial
from types import SimpleNamespace

import pytest

from tresnet_det.datasets.demo import classes, digits
from tresnet_det.errors import InputError

CLASSES = SimpleNamespace(
    make=partial(classes.make_demo_classes, size=32),
    files=1797 + 1,
    other=dict(size=64),
    differs=r'size 32 \(asked: 64\)',
    image='train/0/0000.png',
    lacks='lacks 1 of 1797 images, the first train/0/0000.png',
    writer=(classes, 'write_png'),
)
DIGITS = SimpleNamespace(
    make=partial(digits.make_demo_data, num_train=4, num_val=2),
    files=4 + 2 + 2,
    other=dict(seed=3),
    differs=r'seed 0 \(asked: 3\)',
    image='val2017/000002.png',
    lacks='lacks 1 of 2 images, the first 000002.png',
    writer=(digits, '_add_image'),
)
both = pytest.mark.parametrize('kind', [CLASSES, DIGITS], ids=['classes', 'digits'])


def digests(folder):
    files = sorted(p for p in folder.rglob('*') if p.is_file())
    return {str(p.relative_to(folder)): hashlib.md5(p.read_bytes()).hexdigest() for p in files}


@both
def test_same_arguments_give_the_same_bytes_another_seed_others_and_complete_data_is_reused(
    tmp_path, kind
):
    first, second, third = (
        digests(kind.make(tmp_path / name, seed=seed))
        for name, seed in (('a', 1), ('b', 1), ('c', 2))
    )
    assert first == second
    assert len(first) == kind.files
    assert not set(first.values()) & set(third.values())
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob('*')}
    assert kind.make(tmp_path / 'a', seed=1) == tmp_path / 'a'
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob('*')} == before
    assert len([*tmp_path.iterdir()]) == 3  # nothing is left beside them


@both
def test_other_content_is_named_and_not_overwritten(tmp_path, kind):
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine/thesis.txt').write_text('precious')
    with pytest.raises(InputError, match='mine is there and is no demo data'):
        kind.make(tmp_path / 'mine')
    assert [p.name for p in (tmp_path / 'mine').iterdir()] == ['thesis.txt']
    kind.make(tmp_path / 'demo')
    with pytest.raises(InputError, match=kind.differs):
        kind.make(tmp_path / 'demo', **kind.other)
    (tmp_path / 'demo' / kind.image).unlink()
    with pytest.raises(InputError, match=kind.lacks):
        kind.make(tmp_path / 'demo')


@both
def test_an_interrupted_making_leaves_nothing(tmp_path, monkeypatch, kind):
    def fail(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(*kind.writer, fail)
    with pytest.raises(KeyboardInterrupt):
        kind.make(tmp_path / 'demo')
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ('kind', 'wrong'),
    [
        *((CLASSES, wrong) for wrong in ({'size': 31}, {'size': 1025}, {'seed': -1})),
        *(
            (DIGITS, wrong)
            for wrong in ({'num_train': 0}, {'num_val': -1}, {'size': 8}, {'seed': -1})
        ),
    ],
)
def test_arguments_out_of_range_are_named(tmp_path, kind, wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        kind.make(tmp_path / 'demo', **wrong)
