"""A training that stops at planted numbers, from the pipeline to tools/replay.py."""

import shlex

import pytest
import torch
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS

from tresnet_det.engine import config as edit


@TRANSFORMS.register_module()
class Spoil(BaseTransform):
    """Make one file's image, or a box of it, not finite."""

    def __init__(self, name, what):
        self.name, self.what = name, what

    def transform(self, results):
        if results['img_path'].endswith(self.name):
            if self.what == 'image':
                results['img'] = results['img'].astype('float32')
                results['img'][3, 4] = float('nan')
            else:
                results['gt_bboxes'].tensor[0, 2] = float('nan')
        return results


@pytest.fixture
def spoil(config, data):
    """Plant it into the training pipeline; returns the image's path."""

    def plant(what):
        cfg = edit.load_config(config)
        image = sorted((data.folder / 'train2017').iterdir())[7]
        spoiling = dict(type='Spoil', name=image.name, what=what)
        cfg.train_dataloader.dataset.pipeline.insert(-1, spoiling)
        cfg.model.bbox_head.feat_channels = 64  # a group of one channel has no variance at 1x1
        cfg.dump(config)
        return image

    return plant


PLACES = [('image', 'inputs', 'loss'), ('box', 'data_samples.gt_instances.bboxes', 'batch')]


@pytest.mark.parametrize(('what', 'place', 'named'), PLACES)
def test_a_detectors_training_names_the_image_and_is_run_again(
    config, spoil, run, tmp_path, what, place, named
):
    image = spoil(what)
    work = tmp_path / 'work'
    result = run('train', config, '--work-dir', work)
    assert result.code == 2
    (line,) = [line for line in result.err.splitlines() if line.startswith('error: ')]
    assert f'The {named} is n' in line  # a loss is nan, a batch is not finite
    assert f'{place} of {image};' in line
    command = line.split('python ')[1].split(' runs it again')[0]
    tool, file = shlex.split(command)
    assert tool == 'tools/replay.py'
    step = torch.load(file, weights_only=True)
    assert str(image) in step['files']

    again = run('replay', file)
    assert again.code == 0, again.err
    assert f'not finite before the model saw it: {place} of {image}' in again.out
    assert 'first module with an output that is not finite: ' in again.out
    alone = [line.strip() for line in again.out.splitlines() if line.strip().startswith('/')]
    assert [line.split(': loss ')[0] for line in alone] == step['files']
    # A box that is not finite is none for FCOS, silently: the loss stays finite.
    bad = [line for line in alone if 'nan' in line]
    assert bad == ([f'{image}: loss nan'] if what == 'image' else [])


def test_it_goes_on_by_option_and_ends(config, spoil, run, tmp_path):
    spoil('box')
    cfg = edit.load_config(config)
    (hook,) = [h for h in cfg.custom_hooks if h.type == 'StopOnNonFiniteHook']
    hook.max_skips = 5
    cfg.dump(config)
    result = run('train', config, '--work-dir', tmp_path / 'work')
    assert result.code == 0, result.err
    assert 'Going on without this step: 2 of at most 5.' in result.out + result.err
    weights = torch.load(tmp_path / 'work' / 'epoch_2.pth', weights_only=True)['state_dict']
    assert all(value.isfinite().all() for value in weights.values())


def test_a_file_that_is_not_there_gets_one_line(run):
    result = run('replay', 'no.pth')
    assert result.code == 2
    assert 'no.pth' in result.err
    assert 'Traceback' not in result.err
