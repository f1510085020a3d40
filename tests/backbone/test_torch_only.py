"""The backbone where torch is all that is installed: no MMDetection, no NumPy."""

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer
from packaging.requirements import Requirement

import tresnet_det

CHILD = Path(__file__).with_name('torch_only.py')
LINE = 'needs MMDetection, which is not installed: pip install "tresnet-det[lite]"'


def distributions(name, found):
    """The distributions that ``pip install NAME`` brings, without its extras."""
    if name in found:
        return found
    found[name] = metadata.distribution(name)
    for text in found[name].requires or ():
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({'extra': ''}):
            distributions(requirement.name, found)
    return found


@pytest.fixture(scope='module')
def expected(timms_m):
    """What timm's network gives."""
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        maps = timms_m.forward_intermediates(x, [2, 4], intermediates_only=True)
        return dict(x=x, logits=timms_m(x), feature_maps=maps)


@pytest.fixture(scope='module')
def seen(expected, timms_m, project_root, tmp_path_factory):
    """What torch_only.py saw with links to torch and to what torch requires, and nothing else."""
    folder = tmp_path_factory.mktemp('torch_only')
    site = folder / 'site'
    site.mkdir()
    for distribution in distributions('torch', {}).values():
        for name in {Path(file).parts[0] for file in distribution.files} - {'..', '__pycache__'}:
            if not (site / name).exists():
                (site / name).symlink_to(distribution.locate_file(name))
    torch.save(timms_m.state_dict(), folder / 'timm.pth')
    torch.save(expected['x'], folder / 'x.pth')
    training = dict(
        state_dict={'head.fc.weight': torch.ones(2, 4)},
        meta=dict(dataset_meta=ConfigDict(classes=('cat', 'dog'))),
        message_hub=dict(loss=HistoryBuffer([1.0], [1]), best=np.float64(0.5), none=np.empty(0)),
    )
    torch.save(training, folder / 'epoch_1.pth')
    places = (folder / name for name in ('timm.pth', 'epoch_1.pth', 'x.pth', 'seen.pth'))
    # -S: without the site-packages of this Python.
    done = subprocess.run(
        [sys.executable, '-S', '-W', 'ignore', CHILD, project_root, *places],
        env=os.environ | {'PYTHONPATH': f'{site}{os.pathsep}{project_root}'},
        capture_output=True,
        text=True,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ''
    return torch.load(folder / 'seen.pth')


def test_importing_it_imports_nothing_but_torch(seen):
    assert seen['file'] == tresnet_det.__file__
    packages = {name.partition('.')[0] for name in seen['imported']} - sys.stdlib_module_names
    assert packages == {'tresnet_det'}


def test_logits_and_feature_maps_are_timms(seen, expected):
    for y in (seen['logits'], seen['hub_logits']):
        assert (y - expected['logits']).abs().max() <= 1e-5 * max(1, expected['logits'].abs().max())
    for y, theirs in zip(seen['feature_maps'], expected['feature_maps'], strict=True):
        assert (y - theirs).abs().max() <= 1e-5 * theirs.abs().max()
    assert (seen['channels'], seen['reduction']) == ([128, 2048], [8, 32])


def test_a_training_s_checkpoint_is_read_without_the_packages_that_it_names(seen):
    assert seen['classes'] == ('cat', 'dog')
    assert torch.equal(seen['trained']['head.fc.weight'], torch.ones(2, 4))
    assert seen['allowed_before'] == seen['allowed_after']


def test_what_needs_more_says_so_in_one_line(seen):
    kind, message = zip(*seen['names'], strict=True)
    assert kind == ('ImportError', 'ImportError')
    assert message == (f'tresnet_det.TResNet {LINE}', f'tresnet_det.Predictor {LINE}')
    assert seen['no_such_name'][0] == 'AttributeError'
    for kind, message in (seen['from_hub'], seen['from_url']):
        assert kind == 'InputError'
        assert 'pip install "tresnet' in message
        assert '\n' not in message
    assert seen['by_name'] == seen['by_path'] == (2, f'error: this tool {LINE}\n')
