"""CheckpointGuardHook: weights that do not fit are refused or named before they are used."""

import re

import pytest
import torch

from tresnet_det.errors import InputError

GUARD = [{'type': 'CheckpointGuardHook'}]


@pytest.fixture
def saved(tmp_path):
    """Write a checkpoint as mmengine does, of a model or a state dict."""

    def save(model):
        state = model if isinstance(model, dict) else model.state_dict()
        torch.save({'meta': {}, 'state_dict': state}, tmp_path / 'weights.pth')
        return str(tmp_path / 'weights.pth')

    return save


def test_fitting_checkpoint_is_tested_and_counted(build, saved, toy, log):
    state = {**toy().state_dict(), 'teacher.weight': torch.zeros(2)}
    for file, found in ((toy(), ''), (state, ', 1 unexpected (teacher.weight)')):
        runner = build(GUARD, evaluate_only=True, load_from=saved(file))
        lines = log(runner)
        runner.test()
        # 32 linear layers, one norm
        assert any(line.endswith(f'68 tensors loaded{found}') for line in lines)


class Named(list):
    metainfo = dict(classes=('ant', 'bee', 'cow'))


@pytest.mark.parametrize(('names', 'told'), [('ant bee cow', 0), ('ant cow bee', 1), ('', 0)])
def test_classes_in_another_order_than_those_of_the_data_are_told(
    build, toy, log, tmp_path, names, told
):
    meta = dict(dataset_meta=dict(classes=names.split()))
    torch.save(dict(state_dict=toy().state_dict(), meta=meta), tmp_path / 'a.pth')
    runner = build(GUARD, evaluate_only=True, load_from=str(tmp_path / 'a.pth'))
    dataset = runner.test_loop.dataloader.dataset
    runner.test_loop.dataloader.__dict__['dataset'] = Named(dataset)
    lines = log(runner)
    runner.test()
    line = "a.pth: its class 1 is 'cow', and that of the data is 'bee': its outputs are taken for "
    assert sum(line in x for x in lines) == told


@pytest.mark.parametrize(
    ('phase', 'settings', 'message'),
    [
        ('test', dict(evaluate_only=True), 'trained for another number of classes'),
        ('val', dict(evaluate_only=True), 'trained for another number of classes'),
        ('train', dict(resume=True), '2 of another shape.*number of classes'),
    ],
)
def test_another_number_of_classes_is_refused(build, saved, toy, phase, settings, message):
    runner = build(GUARD, load_from=saved(toy(classes=80)), **settings)
    with pytest.raises(InputError, match=message):
        getattr(runner, phase)()


def test_fine_tuning_may_change_the_number_of_classes(build, saved, toy, log):
    file = saved(toy(classes=80))
    runner = build(GUARD, load_from=file)
    lines = log(runner)
    runner.train()
    assert sum("re-initialized 2 tensors ('head.weight', 'head.bias')" in x for x in lines) == 1
    assert not any('do not match exactly' in x for x in lines)  # mmengine's own report
    build(GUARD, evaluate_only=True).load_checkpoint(file)  # by hand


def test_checkpoint_of_another_arch_is_refused_in_test(build, saved, toy):
    file = saved(toy(width=8))
    runner = build(GUARD, evaluate_only=True, load_from=file)
    with pytest.raises(InputError) as caught:
        runner.test()
    message = str(caught.value)
    assert message.startswith(f'{file}: 1 tensors loaded, 4 missing (norm.weight')  # head.bias
    assert 'stem.weight is (4, 2) in the model and (8, 2) in the file' in message
    assert 'looks like another arch' in message
    assert 'min_share' not in message  # it serves load_from alone
    assert '\n' not in message


def test_fine_tuning_from_another_arch_is_refused(build, saved, toy):
    line = 'A start needs 95% of the tensors.*set min_share .now 0.95. of CheckpointGuardHook'
    with pytest.raises(InputError, match=line):
        build(GUARD, load_from=saved(toy(width=8))).train()


def test_share_can_be_lowered(build, saved, toy):
    state = {key: value for key, value in toy().state_dict().items() if key.startswith('body')}
    with pytest.raises(InputError, match=re.escape('60 tensors loaded, 8 missing (stem.weight')):
        build(GUARD, load_from=saved(state)).train()
    build([{**GUARD[0], 'min_share': 0.8}], load_from=saved(state)).train()


def test_weights_of_a_backbone_alone_are_sent_to_init_cfg(build, saved, toy):
    state = {f'other.{key}': value for key, value in toy().state_dict().items()}
    with pytest.raises(InputError, match='model.backbone.init_cfg'):
        build(GUARD, load_from=saved(state)).train()


def test_its_own_checkpoint_with_averaged_weights_is_resumed(build):
    hooks = [*GUARD, {'type': 'EMAHook'}, {'type': 'CheckpointHook', 'interval': 1}]
    build(hooks, epochs=1).train()
    runner = build(hooks, resume=True)
    runner.train()
    assert runner.iter == 8


def test_a_checkpoint_without_its_iteration_cannot_be_resumed(build, saved, toy):
    with pytest.raises(InputError, match='has no optimizer and no message_hub'):
        build(GUARD, load_from=saved(toy()), resume=True).train()
