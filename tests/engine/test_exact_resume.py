"""A run that is stopped anywhere and resumed reads the same images and ends in the same bits."""

import random
import re
import shutil
import zipfile

import numpy as np
import pytest
import stoppable
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset, ClassBalancedDataset, ConcatDataset
from mmengine.hooks import Hook
from stoppable import BATCH, EPOCHS, IMAGES, ITERATIONS, PullThePlug
from torch.utils.data import BatchSampler, Subset

from tresnet_det.compat.checkpoint_io import load_checkpoint_file
from tresnet_det.engine import work_dir
from tresnet_det.errors import InputError, MissingFileError


@pytest.fixture
def run(tmp_path):
    """Train in a folder of that name; return runner, model and the dataset that was read."""

    def call(folder, *args, **kwargs):
        runner, model = stoppable.run(tmp_path / folder, *args, **kwargs)
        return runner, model, runner.train_dataloader.dataset  # mmengine copies what it is given

    return call


def assert_equal_ends(run_folder, other, file):
    """By the raw weights, the momentum, and the state of all random numbers."""
    one, two = (load_checkpoint_file(folder / file) for folder in (run_folder, other))
    for key, tensor in two['state_dict'].items():
        assert torch.equal(one['state_dict'][key], tensor)
    momenta = [checkpoint['optimizer']['state'] for checkpoint in (one, two)]
    for number, state in momenta[1].items():
        assert torch.equal(momenta[0][number]['momentum_buffer'], state['momentum_buffer'])
    states = [checkpoint['resume']['random_states'][0] for checkpoint in (one, two)]
    assert states[0]['python'] == states[1]['python']
    assert torch.equal(states[0]['torch'], states[1]['torch'])
    assert torch.equal(states[0]['numpy'][1], states[1]['numpy'][1])


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """The folder and the model of a training that nothing stopped, by its kind."""
    trained = {}
    for kind, train in (('epochs', EPOCHS), ('iterations', ITERATIONS)):
        folder = tmp_path_factory.mktemp('whole')
        trained[kind] = folder, stoppable.run(folder, train=train)[1]
    return trained


@pytest.mark.parametrize(
    ('stop', 'train'),
    # Of three epochs with four batches: in the middle of one, and between two.
    [(6, 'epochs'), (8, 'epochs'), (6, 'iterations')],
)
def test_a_run_resumes_at_any_iteration_with_the_same_images(run, whole, tmp_path, stop, train):
    numbers = []

    class Note(Hook):
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            numbers.append((runner.epoch, batch_idx))

    folder, uninterrupted = whole[train]
    kind = dict(epochs=EPOCHS, iterations=ITERATIONS)[train]
    _, begun, _ = run('cut', stop=PullThePlug(stop), train=kind)
    _, ended, read = run('cut', file=f'iter_{stop}.pth', train=kind, hooks=[Note()])
    assert len(begun.seen) == stop
    assert len(uninterrupted.seen) == 12
    for got, expected in zip([*begun.seen, *ended.seen], uninterrupted.seen, strict=True):
        assert torch.equal(got, expected)
    assert len(read.reads) == sum(len(batch) for batch in ended.seen)  # none of the past again
    assert_equal_ends(tmp_path / 'cut', folder, 'iter_12.pth')
    if train == 'epochs':  # by which the logger knows when to write
        assert numbers == [divmod(number, 4) for number in range(stop, 12)]


def test_neither_the_number_of_workers_nor_the_configs_seed_changes_anything(run, whole, tmp_path):
    """A config without a seed gets another one at each start: the interrupted run's counts."""
    folder, uninterrupted = whole['epochs']
    noise = torch.cat(uninterrupted.seen)[:, 1:].flatten().tolist()
    assert len(set(noise)) == len(noise) == 3 * IMAGES * 3  # another one each time
    # Reading leaves the model's random numbers alone: dropout would draw the same in every batch.
    assert len(set(uninterrupted.drawn)) == 12
    run('cut', stop=PullThePlug(6), workers=2)
    _, ended, _ = run('cut', file='iter_6.pth', workers=1, seed=77)
    assert [x.tolist() for x in ended.seen] == [x.tolist() for x in uninterrupted.seen[6:]]
    assert_equal_ends(tmp_path / 'cut', folder, 'iter_12.pth')


class Listed(BaseDataset):
    """Five images of mmengine's kind, from each of which two classes are known."""

    def load_data_list(self):
        return [{'number': number} for number in range(5)]

    def get_cat_ids(self, index):
        return [index % 2]


def draw(sample):
    noise = [random.random(), np.random.rand(), float(torch.rand(()))]
    return {'inputs': torch.tensor([sample['number'], *noise]), 'data_samples': sample['number']}


def make_listed():
    return Listed(pipeline=[draw], serialize_data=False)


class FirstHalvesLast(BatchSampler):
    """A batch sampler whose batches are not consecutive pieces of the sampler's order."""

    def __init__(self, sampler, batch_size):
        super().__init__(sampler, batch_size, drop_last=False)

    def __iter__(self):
        batches = list(super().__iter__())
        yield from batches[2:] + batches[:2]


SETTINGS = {
    'a sampler without end': dict(train=ITERATIONS, sampler={'type': 'InfiniteSampler'}),
    "the config's own batch sampler": dict(batch_sampler={'type': FirstHalvesLast}),
    'no short batch': dict(drop_last=True),
    'accumulated gradients': dict(optim_wrapper={**stoppable.PLAIN, 'accumulative_counts': 3}),
    'concatenated datasets': lambda: ConcatDataset([make_listed(), make_listed()]),
    'a class-balanced dataset': lambda: ClassBalancedDataset(make_listed(), 0.9),
    'a torch subset': lambda: Subset(make_listed(), [4, 3, 2, 1, 0, 1, 2]),
}


@pytest.mark.parametrize('kind', SETTINGS)
def test_other_samplers_datasets_and_steps_resume_too(run, tmp_path, kind):
    def settings():
        chosen = SETTINGS[kind]
        return dict(dataset=chosen()) if callable(chosen) else chosen

    _, whole, _ = run('whole', **settings())
    run('cut', stop=PullThePlug(5), **settings())
    _, ended, read = run('cut', file='iter_5.pth', **settings())
    assert [x.tolist() for x in ended.seen] == [x.tolist() for x in whole.seen[5:]]
    assert_equal_ends(tmp_path / 'cut', tmp_path / 'whole', f'iter_{len(whole.seen)}.pth')
    if kind == 'a sampler without end':  # nothing of the past is read
        assert len(read.reads) == 7 * BATCH
    gradients = load_checkpoint_file(tmp_path / 'cut/iter_5.pth')['resume']['gradients']
    assert bool(gradients) == (kind == 'accumulated gradients')


def test_an_interrupted_validation_is_made_up_for(run, tmp_path):
    settings = dict(validate=True, interval='epoch')
    run('whole', **settings)
    run('cut', stop=PullThePlug(validation=2), **settings)
    before = load_checkpoint_file(tmp_path / 'cut/epoch_2.pth')
    assert len(before['message_hub']['log_scalars']['val/coco/bbox_mAP'].data[0]) == 1
    run('cut', file='epoch_2.pth', **settings)
    # Two of this run: each epoch has one validation, and no more.
    for epoch in (2, 3):
        saved = load_checkpoint_file(tmp_path / f'cut/epoch_{epoch}.pth')
        assert len(saved['message_hub']['log_scalars']['val/coco/bbox_mAP'].data[0]) == epoch
    assert_equal_ends(tmp_path / 'cut', tmp_path / 'whole', 'epoch_3.pth')


def test_early_stopping_counts_on(run, tmp_path):
    """Its monitor never gets better: three validations after the first, wherever it is stopped."""
    stopping = {'type': 'EarlyStoppingHook', 'monitor': 'coco/bbox_mAP', 'patience': 3}
    settings = dict(
        train={**EPOCHS, 'max_epochs': 9}, validate=True, interval='epoch', hooks=[stopping]
    )
    whole, _, _ = run('whole', **settings)
    assert whole.epoch == 4
    run('cut', stop=PullThePlug(iteration=3 * 4 + 1), **settings)
    cut, _, _ = run('cut', file='epoch_3.pth', **settings)
    assert cut.epoch == 4
    saved = load_checkpoint_file(tmp_path / 'cut/epoch_4.pth')  # no validation was made twice
    assert len(saved['message_hub']['log_scalars']['val/coco/bbox_mAP'].data[0]) == 4
    ended, model, _ = run('cut', file='epoch_4.pth', **settings)
    assert ended.epoch == 4
    assert model.seen == []
    patient = dict(settings, hooks=[{**stopping, 'patience': 5}])
    assert run('cut', file='epoch_4.pth', **patient)[0].epoch == 6


def test_an_epoch_of_another_length_begins_again_and_says_so(run, log, tmp_path):
    run('cut', stop=PullThePlug(6))
    lines = []

    class Listen(Hook):
        def before_run(self, runner):
            lines.append(log(runner))

    runner, model, _ = run('cut', file='iter_6.pth', hooks=[Listen()], batch_size=5)
    assert [len(batch) for batch in model.seen] == [5] * 4  # two epochs of two batches
    (line,) = (line for line in lines[0] if 'again' in line)
    assert line == 'epoch 2, of which 2 batches were done, begins again: an epoch has 2 batches now'
    # What is saved from then on can be entered in the middle again.
    assert runner.iter == 10
    assert load_checkpoint_file(tmp_path / 'cut/iter_7.pth')['resume']['epoch_batches'] == (1, 2)


# The files


@pytest.fixture(scope='module')
def saved_once(tmp_path_factory):
    folder = tmp_path_factory.mktemp('saved') / 'cut'
    stoppable.run(folder, interval='epoch')
    return folder


@pytest.fixture
def saved(saved_once, tmp_path):
    """A work folder with epoch_1.pth, epoch_2.pth and epoch_3.pth."""
    folder = tmp_path / 'cut'
    shutil.copytree(saved_once, folder)
    (folder / 'last_checkpoint').write_text(str(folder / 'epoch_3.pth'))
    return folder


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    at = content.index(b'data/0') + 200  # in the first tensor
    content[at] ^= 1
    path.write_bytes(content)


def cut_in_half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def put_a_bomb(path):
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr('archive/data.pkl', bytes(10**7))


DAMAGES = {
    'an archive that grows': (put_a_bomb, 'not written by torch.save: .* unpack to 10000000'),
    'a bit': (flip_a_bit, r'damaged \(the checksum of .*/data/\d+ does not fit\)'),
    'half of it': (cut_in_half, 'truncated'),
    'all of it': (lambda path: path.write_bytes(b''), 'truncated: the file is empty'),
    'the file': (lambda path: path.unlink(), 'not found'),
}


@pytest.mark.parametrize('what', DAMAGES)
def test_a_damaged_last_checkpoint_is_named_and_the_newest_whole_one_taken(saved, what, capsys):
    damage, reason = DAMAGES[what]
    damage(saved / 'epoch_3.pth')
    (saved / 'epoch_1.pth').touch()  # the newest by its time
    assert work_dir.find_last_checkpoint(saved) == str(saved / 'epoch_2.pth')
    said = capsys.readouterr()
    (line,) = (said.out + said.err).strip().splitlines()
    assert re.search(
        f'{saved}/epoch_3.pth, which last_checkpoint names, is {reason}: '
        f'taking {saved}/epoch_2.pth$',
        line,
    )


def test_an_empty_odd_or_missing_record_is_made_up_for(saved, capsys):
    path = saved / 'last_checkpoint'
    for change, found in (
        (lambda: path.write_text(''), f'{path} is empty'),
        (lambda: path.write_text('/'), ', which last_checkpoint names, is not found'),
        (lambda: path.write_bytes(b'\xff'), ', which last_checkpoint names, is not found'),
        (path.unlink, f'{path} does not exist'),
    ):
        change()
        assert work_dir.find_last_checkpoint(saved) == str(saved / 'epoch_3.pth')
        said = capsys.readouterr()
        assert f'{found}: taking' in said.out + said.err


def test_where_none_is_whole_it_is_an_error(saved):
    for path in saved.glob('*.pth'):
        cut_in_half(path)
    with pytest.raises(InputError, match='epoch_3.pth, .* is truncated, and no other checkpoint'):
        work_dir.find_last_checkpoint(saved)


def test_a_folder_without_checkpoints_has_none(tmp_path):
    cfg = Config(dict(work_dir=str(tmp_path), model=dict()))
    assert work_dir.resume_from(cfg, 'auto') is None
    with pytest.raises(MissingFileError, match='--resume: no checkpoint at'):
        work_dir.resume_from(cfg, str(tmp_path))


def test_a_folder_that_was_copied_or_moved_has_its_own_checkpoints(saved, capsys):
    moved = saved.parent / 'moved'
    shutil.copytree(saved, moved)
    assert work_dir.find_last_checkpoint(moved) == str(moved / 'epoch_3.pth')
    shutil.rmtree(saved)
    assert work_dir.find_last_checkpoint(moved) == str(moved / 'epoch_3.pth')
    assert capsys.readouterr().out == ''


def test_weights_without_an_optimizer_are_not_resumed(saved):
    content = load_checkpoint_file(saved / 'epoch_3.pth')
    del content['optimizer']
    torch.save(content, saved / 'epoch_3.pth')
    (saved / 'last_checkpoint').write_text('')
    assert work_dir.find_last_checkpoint(saved) == str(saved / 'epoch_2.pth')


def test_a_damaged_file_that_is_named_is_refused_with_the_newest_whole_one(saved):
    flip_a_bit(saved / 'epoch_3.pth')
    cfg = Config(dict(work_dir=str(saved), model=dict()))
    with pytest.raises(InputError) as caught:
        work_dir.resume_from(cfg, str(saved / 'epoch_3.pth'))
    line = str(caught.value)
    assert line.startswith(f'--resume: {saved}/epoch_3.pth is damaged (the checksum')
    assert line.endswith(f'; the newest whole one next to it is {saved}/epoch_2.pth')
