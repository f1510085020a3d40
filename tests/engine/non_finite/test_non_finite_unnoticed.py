"""What StopOnNonFiniteHook must leave alone, and what it refuses."""

import copy

import pytest
import torch
from mmengine.hooks import Hook
from planted_steps import (
    ALL_WRAPPERS,
    NAN,
    STOP,
    assert_equal,
    state,
    stop,
)

import tresnet_det  # noqa: F401  (prepares the stack)


@ALL_WRAPPERS
@pytest.mark.parametrize('accumulative_counts', [1, 2, 3])
def test_a_finite_training_is_the_same_to_the_last_bit(build, toy, wrapper, accumulative_counts):
    ends = []
    for hooks in ([], STOP):
        torch.manual_seed(5)
        model = toy()
        optim = {**copy.deepcopy(wrapper), 'accumulative_counts': accumulative_counts}
        runner = build(hooks, model, val=False, optim_wrapper=optim)
        torch.manual_seed(6)
        runner.train()
        losses, _ = runner.message_hub.get_scalar('train/loss').data
        assert runner.iter == 8
        ends.append((state(runner), list(losses)))
    assert_equal(ends[1][0], ends[0][0])
    assert ends[1][1] == ends[0][1]


@pytest.mark.filterwarnings('error:Seems like `optimizer.step')
def test_mmengines_schedulers_go_on_counting_steps(build):
    scheduler = {'type': 'ConstantLR', 'factor': 0.5, 'by_epoch': False, 'end': 2}
    runner = build(STOP, param_scheduler=[scheduler])
    runner.train()
    assert runner.optim_wrapper._global_step == 7  # eight steps from -1
    assert runner.optim_wrapper.get_lr()['lr'] == [0.01]


def test_after_training_wrapper_and_model_are_their_own_again(build):
    runner = build(STOP)
    runner.train()
    assert {'update_params', 'step', 'clip_func'} & set(vars(runner.optim_wrapper)) == set()
    assert 'parse_losses' not in vars(runner.model)
    assert not runner.model.data_preprocessor._forward_hooks
    assert not runner.optim_wrapper.optimizer._optimizer_step_pre_hooks


def test_a_batch_is_let_go_after_its_iteration(build):
    runner = build(STOP)
    (hook,) = [h for h in runner.hooks if type(h).__name__ == 'StopOnNonFiniteHook']

    class Look(Hook):
        priority = 'VERY_LOW'
        seen = []

        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            self.seen.append(hook._guard.batch)

    runner.register_hook(Look())
    runner.train()
    assert Look.seen == [None] * 8


def test_several_optimisers_are_refused_in_one_line(build, toy):
    from mmengine.optim import OptimWrapper, OptimWrapperDict

    model = toy()
    wrappers = OptimWrapperDict(
        a=OptimWrapper(torch.optim.SGD(model.stem.parameters(), 0.1)),
        b=OptimWrapper(torch.optim.SGD(model.head.parameters(), 0.1)),
    )
    message = stop(build(STOP, model, optim_wrapper=wrappers))
    assert 'not with OptimWrapperDict: take it out of custom_hooks' in message


def test_a_batch_of_an_unknown_form_is_named_as_such(build, toy):
    class Model(toy):
        def forward(self, first, second, mode='loss'):
            return {'loss': self.stem(first).mean() * second['weight'].mean()}

    items = [(torch.ones(2), {'weight': torch.tensor(NAN if i == 3 else 1.0)}) for i in range(8)]
    loader = {
        'batch_size': 2,
        'sampler': {'type': 'DefaultSampler', 'shuffle': False},
        'collate_fn': {'type': 'default_collate'},
        'dataset': items,
    }
    message = stop(build(STOP, Model(), val=False, train_dataloader=loader))
    assert 'at iteration 2 ' in message
    assert '(the batch does not name its files)' in message


def test_a_model_with_a_step_of_its_own_is_guarded_too(build, toy):
    class Model(toy):
        def train_step(self, data, optim_wrapper):
            inputs = torch.stack(data['inputs'])
            loss = self.stem(inputs).mean()
            optim_wrapper.update_params(loss)
            return {'loss': loss}

    runner = build(STOP, Model(), bad=5)
    message = stop(runner)
    assert 'The loss is nan at iteration 3' in message
    assert 'on the files img_4.jpg, img_5.jpg;' in message
    assert runner.model.stem.weight.isfinite().all()


def test_a_file_that_cannot_be_written_is_a_warning(build, log, tmp_path):
    (tmp_path / 'work').mkdir()
    (tmp_path / 'work' / 'non_finite').write_text('in the way')
    runner = build(STOP, bad=5)
    lines = log(runner)
    message = stop(runner)
    assert 'The loss is nan at iteration 3' in message
    assert 'replay' not in message
    assert any('iter_3.pth could not be written' in line for line in lines)
