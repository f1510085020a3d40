"""SafeCheckpointHook: whatever happens, a last and a best checkpoint are there."""

import errno
import os
from pathlib import Path

import pytest
import torch
from mmengine.evaluator import BaseMetric

from tresnet_det import files
from tresnet_det.compat.checkpoint_io import load_checkpoint_file
from tresnet_det.engine.work_dir import find_last_checkpoint
from tresnet_det.errors import InputError

LOGGER = {'type': 'LoggerHook', 'interval': 2}


class Given(BaseMetric):
    """The metrics of the validations, given beforehand."""

    default_prefix = 'coco'

    def __init__(self, values):
        super().__init__()
        self.values = iter(values)

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        value = next(self.values)
        return dict(bbox_mAP=value, loss=value)


@pytest.fixture
def train(build):
    """Train with the hook under test; ``best`` gives the metric of each validation."""

    def call(best=(), epochs=4, **hook):
        kept = dict(save_best='coco/bbox_mAP', rule='greater') if best else {}
        hook = {'type': 'SafeCheckpointHook', 'interval': 1, **kept, **hook}
        more = {'val_evaluator': [Given(best)]} if best else {}
        hooks = {'logger': LOGGER, 'checkpoint': hook}
        runner = build([], epochs=epochs, val=bool(best), default_hooks=hooks, **more)
        runner.train()
        return runner

    return call


@pytest.fixture
def moments(monkeypatch, tmp_path):
    """What a kill before and after each change of the folder's names would leave."""
    seen = []

    def look():
        work = tmp_path / 'work'
        record = work / 'last_checkpoint'
        last = load_checkpoint_file(record.read_text()) if record.is_file() else None
        best = [load_checkpoint_file(path) for path in work.glob('best_*.pth')]
        known = last and last['message_hub']['runtime_info'].get('best_ckpt')
        assert not known or Path(known).is_file()
        seen.append((last is not None, bool(best)))

    for name in ('replace', 'remove', 'unlink', 'rename'):
        original = getattr(os, name)

        def watched(*args, original=original, **kwargs):
            look()
            result = original(*args, **kwargs)
            look()
            return result

        monkeypatch.setattr(os, name, watched)
    return seen


def test_at_no_moment_is_there_no_last_or_no_best_checkpoint(train, moments, tmp_path):
    train(best=(0.1, 0.3, 0.2, 0.5), max_keep_ckpts=1)
    for kind in zip(*moments, strict=True):  # once there, always there
        assert list(kind) == sorted(kind)
        assert kind[-1]
    names = {path.name for path in (tmp_path / 'work').glob('*.pth')}
    assert names == {'epoch_4.pth', 'best_coco_bbox_mAP_epoch_4.pth'}
    assert Path((tmp_path / 'work/last_checkpoint').read_text()).name == 'epoch_4.pth'


def test_the_last_checkpoint_knows_the_validation_at_its_step(train, tmp_path):
    train(best=(0.3, 0.1), epochs=2)
    for epoch in (1, 2):
        saved = load_checkpoint_file(tmp_path / f'work/epoch_{epoch}.pth')
        history = saved['message_hub']['log_scalars']['val/coco/bbox_mAP']
        assert history.data[0].tolist() == [0.3, 0.1][:epoch]
        best = saved['message_hub']['runtime_info']['best_ckpt']
        assert Path(best).name == 'best_coco_bbox_mAP_epoch_1.pth'
        assert not {'optimizer', 'resume'} & set(torch.load(best, weights_only=True))
        assert saved['resume']['validated'] == saved['meta']['iter'] == 4 * epoch


def test_each_of_several_metrics_has_its_best_checkpoint(train, tmp_path):
    several = dict(save_best=['coco/bbox_mAP', 'coco/loss'], rule=['greater', 'less'])
    train(best=(0.2, 0.1, 0.3), epochs=3, **several)
    names = {path.name for path in (tmp_path / 'work').glob('best_*.pth')}
    assert names == {'best_coco_bbox_mAP_epoch_3.pth', 'best_coco_loss_epoch_2.pth'}


@pytest.fixture
def fail_to_write(monkeypatch):
    """Let the disk be full whenever a file of these names is written: half of it fits."""

    def prepare(*names):
        original = open

        def open_(path, *args, **kwargs):
            file = original(path, *args, **kwargs)
            if Path(path).name.removesuffix(f'.{os.getpid()}{files.UNFINISHED}') in names:
                file.write(b'half')
                file.close()
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return file

        monkeypatch.setattr(files, 'open', open_, raising=False)

    return prepare


def test_a_full_disk_ends_the_training_with_one_line(train, fail_to_write, tmp_path):
    fail_to_write('epoch_2.pth')
    with pytest.raises(InputError) as caught:
        train(max_keep_ckpts=1)
    line = str(caught.value)
    work = tmp_path / 'work'
    assert line.startswith(f'{work}/epoch_2.pth cannot be written: No space left on device (0.')
    assert line.endswith(f'; fix that, and --resume continues from {work}/epoch_1.pth')
    assert ' MB free)' in line
    assert '\n' not in line
    assert find_last_checkpoint(work) == f'{work}/epoch_1.pth'
    assert {path.name for path in work.glob('*.pth*')} == {'epoch_1.pth'}


@pytest.mark.parametrize('file', ['epoch_2.pth', 'last_checkpoint'])
def test_a_training_that_is_told_to_go_on_does(train, fail_to_write, log, tmp_path, file, build):
    work = tmp_path / 'work'
    train(epochs=1, max_keep_ckpts=1)
    fail_to_write(file)
    hook = {'type': 'SafeCheckpointHook', 'interval': 1, 'max_keep_ckpts': 1, 'on_error': 'warn'}
    runner = build(
        [], epochs=2, val=False, resume=True, load_from=str(work / 'epoch_1.pth'),
        default_hooks={'logger': LOGGER, 'checkpoint': hook},
    )  # fmt: skip
    lines = log(runner)
    runner.train()
    assert runner.iter == 8
    (line,) = (line for line in lines if 'cannot be written' in line)
    assert line.startswith(f'{work}/{file} cannot be written: No space left on device (')
    assert line.endswith(f'; the training continues, {work}/epoch_1.pth stays the last checkpoint')
    assert find_last_checkpoint(work) == f'{work}/epoch_1.pth'
    assert not list(work.glob('*' + files.UNFINISHED))


def test_what_was_not_written_is_not_taken_for_written_later(train, fail_to_write, tmp_path):
    fail_to_write('epoch_2.pth', 'best_coco_bbox_mAP_epoch_2.pth')
    train(best=(0.1, 0.5, 0.4, 0.2), max_keep_ckpts=2, on_error='warn')
    work = tmp_path / 'work'
    best = 'best_coco_bbox_mAP_epoch_3.pth'  # 0.4: the 0.5 has no file
    assert {path.name for path in work.glob('*.pth')} == {'epoch_3.pth', 'epoch_4.pth', best}
    info = load_checkpoint_file(work / 'epoch_4.pth')['message_hub']['runtime_info']
    assert info['best_score'] == 0.4
    assert info['keep_ckpt_ids'] == [3, 4]


def test_what_a_killed_run_was_writing_is_removed_at_the_next_start(build, log, tmp_path):
    work = tmp_path / 'work'
    work.mkdir()
    (work / 'epoch_1.pth.unfinished').write_bytes(b'half')
    hook = {'type': 'SafeCheckpointHook', 'interval': -1, 'save_last': False}
    runner = build([], epochs=1, default_hooks={'logger': LOGGER, 'checkpoint': hook})
    lines = log(runner)
    runner.train()
    assert 'epoch_1.pth.unfinished: removed, a killed run was writing it' in lines
    assert not list(work.glob('epoch_1.pth*'))


def test_what_a_killed_run_had_yet_to_remove_is_removed_at_the_next_start(
    build, monkeypatch, tmp_path
):
    work = tmp_path / 'work'
    hook = {'type': 'SafeCheckpointHook', 'interval': 1, 'max_keep_ckpts': 1}
    settings = dict(val=False, default_hooks={'logger': LOGGER, 'checkpoint': hook})

    def kill(path):
        raise KeyboardInterrupt(path)

    runner = build([], epochs=2, **settings)
    monkeypatch.setattr(os, 'remove', kill)
    with pytest.raises(KeyboardInterrupt, match=r'epoch_1\.pth'):
        runner.train()
    monkeypatch.undo()
    assert {path.name for path in work.glob('*.pth')} == {'epoch_1.pth', 'epoch_2.pth'}
    last = find_last_checkpoint(work)
    assert last == f'{work}/epoch_2.pth'
    build([], epochs=2, resume=True, load_from=last, **settings).train()
    assert {path.name for path in work.glob('*.pth')} == {'epoch_2.pth'}
