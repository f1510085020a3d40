import re

import pytest
import torch

from tresnet_det.engine.key_match import match_keys
from tresnet_det.errors import InputError

GUARD = [{'type': 'CheckpointGuardHook'}]


@pytest.fixture
def saved(tmp_path):
    """Write a checkpoint as mmengine does, of a model or a state dict."""

    def save(model, name='weights.pth'):
        state = model if isinstance(model, dict) else model.state_dict()
        path = tmp_path / name
        torch.save({'meta': {}, 'state_dict': state}, path)
        return str(path)

    return save


def test_fitting_checkpoint_is_tested_and_counted(build, saved, toy, log):
    runner = build(GUARD, evaluate_only=True, load_from=saved(toy()))
    lines = log(runner)
    runner.test()
    assert any('all 68 tensors fit' in line for line in lines)  # 32 linear layers, one norm


def test_checkpoint_of_another_arch_is_refused_in_test(build, saved, toy):
    file = saved(toy(width=8))
    runner = build(GUARD, evaluate_only=True, load_from=file)
    with pytest.raises(InputError) as caught:
        runner.test()
    message = str(caught.value)
    assert message.startswith(f'{file} does not fit the model (test or resume needs every tensor)')
    assert '1 tensors fit' in message  # the bias of the head
    assert '4 missing (norm.bn.weight' in message
    assert 'stem.weight is (4, 2) in the model and (8, 2) in the file' in message
    assert 'checkpoint of another arch' in message
    assert 'min_share' not in message  # it serves load_from alone
    assert '\n' not in message


@pytest.mark.parametrize('phase', ['test', 'val'])
def test_other_number_of_classes_is_refused_in_evaluation(build, saved, toy, phase):
    runner = build(GUARD, evaluate_only=True, load_from=saved(toy(classes=80)))
    with pytest.raises(InputError, match='trained for another number of classes'):
        getattr(runner, phase)()


def test_fine_tuning_may_change_the_number_of_classes(build, saved, toy, log):
    runner = build(GUARD, load_from=saved(toy(classes=80)))
    lines = log(runner)
    runner.train()
    assert any('66 tensors fit, 2 of another shape (head.weight, head.bias)' in x for x in lines)


def test_fine_tuning_from_another_arch_is_refused(build, saved, toy):
    with pytest.raises(InputError, match='load_from needs 95% of the tensors') as caught:
        build(GUARD, load_from=saved(toy(width=8))).train()
    assert str(caught.value).endswith(
        'set min_share (now 0.95) of CheckpointGuardHook in custom_hooks lower.'
    )


def test_share_can_be_lowered(build, saved, toy):
    state = {key: value for key, value in toy().state_dict().items() if key.startswith('body')}
    with pytest.raises(InputError, match=re.escape('60 tensors fit, 8 missing (stem.weight')):
        build(GUARD, load_from=saved(state)).train()
    build([{**GUARD[0], 'min_share': 0.8}], load_from=saved(state)).train()


def test_weights_of_a_backbone_alone_are_sent_to_init_cfg(build, saved, toy):
    state = {f'other.{key}': value for key, value in toy().state_dict().items()}
    with pytest.raises(InputError, match='model.backbone.init_cfg'):
        build(GUARD, load_from=saved(state)).train()


def test_resume_needs_every_weight(build, saved, toy):
    with pytest.raises(InputError, match=r'test or resume .* 2 of another shape'):
        build(GUARD, load_from=saved(toy(classes=80)), resume=True).train()


def test_resume_of_its_own_checkpoint_goes_on(build):
    keep = {'type': 'CheckpointHook', 'interval': 1}
    build([*GUARD, keep], epochs=1).train()
    runner = build([*GUARD, keep], resume=True)
    runner.train()
    assert runner.iter == 8


def test_averaged_weights_pass_the_guard(build):
    hooks = [*GUARD, {'type': 'EMAHook'}, {'type': 'CheckpointHook', 'interval': 1}]
    build(hooks, epochs=1).train()
    build(hooks, resume=True).train()


def test_unused_weights_are_warned_of(build, saved, toy, log):
    state = {**toy().state_dict(), 'teacher.weight': torch.zeros(2)}
    runner = build(GUARD, evaluate_only=True, load_from=saved(state))
    lines = log(runner)
    runner.test()
    assert any('68 tensors fit, 1 not used (teacher.weight)' in line for line in lines)


def test_weights_loaded_by_hand_follow_the_rule_of_fine_tuning(build, saved, toy):
    build(GUARD, evaluate_only=True).load_checkpoint(saved(toy(classes=80)))


def test_both_notations_of_a_norm_are_the_same_name(toy):
    match = match_keys(toy(norm='abn').state_dict(), toy(norm='bn').state_dict())
    assert match.complete
    assert not match.unexpected


def test_prefix_of_a_wrapper_and_batch_counters_do_not_count():
    ours = {'a.bn1.weight': torch.zeros(3), 'a.bn1.num_batches_tracked': torch.tensor(0)}
    match = match_keys(ours, {'module.a.bn1.weight': torch.zeros(3)})
    assert (match.matched, match.missing, match.share) == (['a.bn1.weight'], [], 1.0)
    wrapped = {f'module.{key}': value for key, value in ours.items()}
    assert match_keys(wrapped, ours).matched == ['a.bn1.weight']


def test_class_count_is_told_from_width():
    ours = {'bbox_head.cls.weight': torch.zeros(3, 8), 'bbox_head.conv.weight': torch.zeros(8, 8)}
    theirs = {
        'bbox_head.cls.weight': torch.zeros(80, 8),
        'bbox_head.conv.weight': torch.zeros(9, 9),
    }
    match = match_keys(ours, theirs)
    assert match.class_count == ['bbox_head.cls.weight']
    assert match.first_problem == (
        'bbox_head.conv.weight is (8, 8) in the model and (9, 9) in the file'
    )


def test_vector_counts_as_classes_only_with_the_weight_of_its_layer():
    def head(classes, width):
        return {
            'bbox_head.cls.weight': torch.zeros(classes, 8, 3, 3),
            'bbox_head.cls.bias': torch.zeros(classes),
            'bbox_head.gn.weight': torch.zeros(width),
            'bbox_head.gn.bias': torch.zeros(width),
            'bbox_head.conv.weight': torch.zeros(width, width, 3, 3),
            'bbox_head.conv.bias': torch.zeros(width),
            'bbox_head.scale': torch.zeros(width),
        }

    match = match_keys(head(3, 8), head(80, 16))
    assert match.class_count == ['bbox_head.cls.weight', 'bbox_head.cls.bias']
    assert len(match.reshaped) == 7
    lone = match_keys({'bbox_head.cls.bias': torch.zeros(3)}, {'bbox_head.cls.bias': torch.ones(4)})
    assert lone.class_count == []
