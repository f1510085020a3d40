"""What an image is called, by a user, a server or a file, cannot lead a result away."""

import json
import os
from pathlib import Path

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from tresnet_det.inference.inputs import InputImage
from tresnet_det.inference.output_files import safe_name
from tresnet_det.inference.outputs import PredictionWriter
from tresnet_det.models import ClsDataSample

PARTS = (
    '..', '.', '/', '\\', '~', 'C:', '\0', '\n', '%2e%2e', '?', '#', '://', 'con', 'a.jpg',
    '𝒜' * 90, '中' * 90, '\udcff', '\u202e', ' ', '-', '.png',
)  # fmt: skip
names = st.one_of(st.text(), st.lists(st.sampled_from(PARTS), max_size=6).map(''.join))


@given(st.lists(names, min_size=1, max_size=5), st.sampled_from([None, '.mp4']))
def test_fuzz_names_of_results_are_one_part_of_their_own(given_names, suffix):
    taken, found = set(), []
    for name in given_names:
        found.append(safe_name(name, taken, suffix))
        part = found[-1]
        assert Path('out', part).resolve() == Path('out').resolve() / part
        assert len(Path(part).parts) == 1
        assert part not in ('.', '..')
        assert not part.startswith('.')
        assert len(os.fsencode(part)) <= 255
        assert not set(part) & set('/\\:\0\n\r')
        assert part.endswith(suffix or ('.jpg', '.png'))
    assert len({part.lower() for part in found}) == len(found)


def test_images_of_hostile_names_are_drawn_into_the_folder_and_nowhere_else(tmp_path):
    names = (
        '../../evil.png',
        '/etc/evil.png',
        'https://host/../evil.png?x=/../y',
        '..',
        'a\nb.jpg',
    )
    sample = ClsDataSample()
    sample.pred_score = torch.tensor([0.3, 0.7])
    pixels = np.zeros((20, 20, 3), np.uint8)
    with PredictionWriter(tmp_path / 'in/out', 'classification', ('cat', 'dog'), 0.0) as writer:
        for name in names:
            writer.add(InputImage(name, pixels), sample)
    files = {path.relative_to(tmp_path) for path in tmp_path.rglob('*') if path.is_file()}
    drawn = {path for path in files if path.suffix in ('.png', '.jpg')}
    assert len(drawn) == len(names)
    assert {path.parent for path in drawn} == {Path('in/out/images')}
    assert {path.parent for path in files - drawn} == {Path('in/out')}
    entries = json.loads((tmp_path / 'in/out/results.json').read_text())
    assert [entry['file'] for entry in entries] == list(names)
    assert {Path('in/out', entry['drawn']) for entry in entries} == drawn
