"""A checkpoint of sound weights and an unsound rest is not resumed; one line names file and key."""

import copy
import math

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

from tresnet_det.engine.resume_check import find_kept
from tresnet_det.errors import InputError

NAN = math.nan
ADAM = dict(optimizer=dict(type='AdamW', lr=0.01), accumulative_counts=3)
HOOKS = [dict(type='CheckpointGuardHook'), dict(type='EMAHook')]
SETTINGS = dict(
    optim_wrapper=ADAM,
    param_scheduler=[
        dict(type='OneCycleLR', eta_max=0.1, total_steps=12, by_epoch=False),
        dict(type='MultiStepLR', milestones=[2]),
    ],
    default_hooks=dict(checkpoint=dict(type='SafeCheckpointHook', interval=1)),
    randomness=dict(seed=0),
    val=False,
)


@pytest.fixture(scope='module')
def training(builder, tmp_path_factory):
    """A runner that has trained an epoch of two, and what its checkpoint holds; only to be read."""
    build = builder(tmp_path_factory.mktemp('resume'))
    build(HOOKS, epochs=1, **copy.deepcopy(SETTINGS)).train()
    runner = build(HOOKS, resume=True, **copy.deepcopy(SETTINGS))
    runner.train()
    return runner, torch.load(f'{runner.work_dir}/epoch_1.pth', weights_only=False)


GONE = object()


def change(content, way, value):
    """Set or take away what is at the end of a way of keys."""
    for key in way[:-1]:
        content = content[key]
    if value is GONE:
        del content[way[-1]]
    else:
        content[way[-1]] = value(content[way[-1]]) if callable(value) else value


def history(**changes):
    made = HistoryBuffer()
    vars(made).update(dict(_log_history=np.ones(3), _count_history=np.ones(3)) | changes)
    return made


GROUP = ('optimizer', 'param_groups', 0)
STATE = ('optimizer', 'state', 0)
RANDOM = ('resume', 'random_states', 0)
INFO = ('message_hub', 'runtime_info')
COUNT = 'not a whole number from 0 to 100000000'
UNSOUND = [
    # the way, what is there instead, what the line says
    (('meta',), {}, "meta has no 'epoch'"),
    (('meta',), None, 'meta is None'),
    (('meta', 'epoch'), GONE, "meta has no 'epoch'"),
    (('meta', 'epoch'), True, "meta['epoch'] is True (bool), " + COUNT),
    (('meta', 'epoch'), '2', "meta['epoch'] is '2' (str), " + COUNT),
    (('meta', 'iter'), NAN, "meta['iter'] is nan (float), " + COUNT),
    (('meta', 'iter'), -1, "meta['iter'] is -1 (int), " + COUNT),
    (('meta', 'iter'), 10**30, f"meta['iter'] is {10**30} (int), " + COUNT),
    (('meta', 'iter'), 10**9, f"meta['iter'] is {10**9} (int), " + COUNT),
    (('meta', 'iter'), torch.tensor(1), "meta['iter'] is tensor(1)"),
    (('meta', 'seed'), -1, "meta['seed'] is -1 (int), not a whole number from 0 to 4294967295"),
    (('meta', 'seed'), 2**32, "meta['seed'] is 4294967296 (int)"),
    (('meta', 'seed'), 1.5, "meta['seed'] is 1.5 (float)"),
    (('optimizer',), GONE, 'has no optimizer: nothing to resume'),
    (('message_hub',), None, 'has no message_hub: nothing to resume'),
    (('optimizer',), [1], 'optimizer is [1] (list), not a dict'),
    (('optimizer',), {}, "optimizer has no 'state'"),
    (('optimizer',), {1: 2}, 'the key 1 of optimizer is no text'),
    (('optimizer', 'state'), [1], "optimizer['state'] is [1] (list), not a dict"),
    (('optimizer', 'param_groups'), {}, "optimizer['param_groups'] is {} (dict), not a list"),
    (('optimizer', 'param_groups'), [1], "optimizer['param_groups'][0] is 1 (int), not a dict"),
    (('optimizer', 'param_groups'), [], 'has 0 groups of parameters, not 1'),
    ((*GROUP, 'params'), [0, 1], "['params'] is [0, 1], not [0, 1, 2,"),
    ((*GROUP, 'params'), 'ab', "['params'] is 'ab' (str), not a list"),
    ((*GROUP, 'params', 0), torch.ones(3), "['params'][0] is "),
    ((*GROUP, 'lr'), NAN, "optimizer['param_groups'][0]['lr'] is nan, not a finite number from 0"),
    ((*GROUP, 'lr'), -1.0, "['lr'] is -1.0, not a finite number from 0"),
    ((*GROUP, 'lr'), GONE, "optimizer['param_groups'][0] has no key 'lr'"),
    ((*GROUP, 'betas'), (5,), "['betas'] is (5,), not a list of 2"),
    ((*GROUP, 'amsgrad'), True, "optimizer['state'][0] has no key 'max_exp_avg_sq'"),
    ((*GROUP, 'capturable'), True, 'has options with which AdamW makes no step'),
    (STATE, 'text', "optimizer['state'][0] is 'text', not a dict"),
    (('optimizer', 'state', 10**9), {}, 'has the key 1000000000, which is no parameter'),
    ((*STATE, 'exp_avg'), GONE, "optimizer['state'][0] has no key 'exp_avg'"),
    ((*STATE, 'exp_avg'), torch.ones(3), "['exp_avg'] is of shape (3,), not a finite tensor of"),
    ((*STATE, 'exp_avg'), lambda x: x * NAN, 'not a finite tensor of shape (4, 2)'),
    ((*STATE, 'exp_avg'), lambda x: x.to('meta'), "['exp_avg'] is without values"),
    ((*STATE, 'exp_avg'), lambda x: x.to_sparse(), "['exp_avg'] is sparse"),
    ((*STATE, 'exp_avg'), None, "optimizer['state'][0] has no key 'exp_avg'"),
    ((*STATE, 'step'), torch.tensor(-1.0), "['step'] is -1.0, not a finite number from 0"),
    ((*STATE, 'step'), torch.tensor(True), "['step'] is True, not a finite number from 0"),
    ((*STATE, 'step'), torch.zeros(0), "['step'] is of shape (0,), not a finite number from 0"),
    ((*STATE, 'step'), torch.ones(7), "['step'] is of shape (7,), not a finite number from 0"),
    ((*STATE, 'momentum_buffer'), torch.ones(4, 2), "has an unknown key 'momentum_buffer'"),
    ((*STATE, None), 1, 'has an unknown key None'),
    (('param_schedulers',), 3, 'param_schedulers is 3, not a list of 2'),
    (('param_schedulers',), [], 'param_schedulers is [], not a list of 2'),
    (('param_schedulers', 0), 1, 'param_schedulers[0] is 1, not a dict'),
    (('param_schedulers', 0, 'last_step'), NAN, "[0]['last_step'] is nan, not a finite number"),
    (('param_schedulers', 0, 'last_step'), 10**30, "[0]['last_step'] is 1000"),
    (('param_schedulers', 0, 'base_values'), [], "[0]['base_values'] is [], not a list of 1"),
    (('param_schedulers', 0, 'step'), 'x', "param_schedulers[0] has an unknown key 'step'"),
    (('param_schedulers', 0, 'param_name'), 'x', "['param_name'] is 'x', not 'lr'"),
    (('param_schedulers', 0, 'anneal_func'), 'x', "['anneal_func'] is 'x', not a function"),
    (('param_schedulers', 1, 'milestones'), {'a': 1}, "['milestones'] is {'a': 1}, not steps"),
    (('message_hub',), 'text', "message_hub is 'text' (str), not a dict"),
    (('message_hub', 'resumed_keys'), GONE, "message_hub has no 'resumed_keys'"),
    (('message_hub', 'log_scalars'), {1: 2}, "the key 1 of message_hub['log_scalars'] is no text"),
    ((*INFO, 'best_ckpt'), 5, "message_hub['runtime_info']['best_ckpt'] is 5 (int), not a text"),
    ((*INFO, 'best_score_a'), 'x', "['best_score_a'] is 'x' (str), not a number"),
    ((*INFO, 'best_score_a'), 10**400, '(int), not a number'),
    ((*GROUP, 'lr'), 10**400, "['lr'] is 1000"),
    (('resume', 'seconds'), 10**400, '(int), not a number'),
    ((*INFO, 'keep_ckpt_ids'), ['../x'], "['keep_ckpt_ids'][0] is '../x' (str), " + COUNT),
    (('message_hub', 'log_scalars', 'loss'), history(_count_history=np.ones(2)), 'HistoryBuffer'),
    (('message_hub', 'log_scalars', 'loss'), history(max_length=-5), 'HistoryBuffer'),
    (('resume',), [1], 'resume is [1] (list), not a dict'),
    (('resume', 'epoch_batches'), GONE, "resume has no 'epoch_batches'"),
    (('resume', 'epoch_batches'), (9, 4), "['epoch_batches'] is (9, 4) (tuple), not the batches"),
    (('resume', 'validated'), NAN, "resume['validated'] is nan (float), " + COUNT),
    (('resume', 'replaced'), [5], "resume['replaced'][0] is 5 (int), not a text"),
    (('resume', 'early_stopping'), [{'monitor': 'a'}], "[0] has no 'wait_count'"),
    (('resume', 'gradients', 'head.bias'), torch.ones(9), 'is of shape (9,), not a finite tensor'),
    ((*RANDOM, 'python'), (3, (1, 2), None), 'holds no states of random numbers'),
    ((*RANDOM, 'numpy'), lambda x: (*x[:2], 10**6, *x[3:]), 'holds no states of random numbers'),
    ((*RANDOM, 'torch'), GONE, 'holds no states of random numbers'),
    (('ema_state_dict',), {}, 'ema_state_dict: 0 tensors loaded'),
    (('ema_state_dict', 'module.head.bias'), torch.ones(9), 'head.bias is (3,) in the model and'),
]


@pytest.mark.parametrize(
    ('way', 'value', 'says'), UNSOUND, ids=[f'{i} {case[2][:40]}' for i, case in enumerate(UNSOUND)]
)
def test_what_cannot_be_resumed_is_told_in_one_line(way, value, says, training, tmp_path):
    runner, content = training
    content, file = copy.deepcopy(content), tmp_path / 'epoch_1.pth'
    change(content, way, value)
    torch.save(content, file)
    runner._load_from = str(file)
    before = copy.deepcopy(runner.model.state_dict())
    with pytest.raises(InputError) as caught:
        runner.resume(str(file))
    message = str(caught.value)
    assert message.startswith(str(file))
    assert says in message
    assert '\n' not in message
    assert len(message) < 500
    assert all(torch.equal(value, before[key]) for key, value in runner.model.state_dict().items())


@pytest.mark.parametrize(
    ('way', 'value'),
    [
        ((*STATE, 'step'), 4),  # older versions of torch
        (STATE, {}),  # of a parameter that was not in use
        (('resume',), GONE),  # mmengine's hook writes none
        (('ema_state_dict',), GONE),
        (('meta', 'seed'), None),
        ((*GROUP, 'fused'), GONE),  # versions of torch have other flags
        (('param_schedulers', 1, 'milestones'), {7: 1}),
    ],
    ids=['step', 'unused', 'no state', 'no average', 'no seed', 'no flag', 'milestones'],
)
def test_what_older_versions_and_other_configs_leave_is_resumed(way, value, training, tmp_path):
    runner, content = training
    content, file = copy.deepcopy(content), tmp_path / 'epoch_1.pth'
    change(content, way, value)
    torch.save(content, file)
    runner.resume(str(file))
    assert runner.iter == 4


def test_the_checkpoints_learning_rate_and_schedule_continue_and_that_is_said(training):
    runner, _ = training
    cycle, steps = (one.state_dict() for one in runner.param_schedulers)
    optimizer = runner.optim_wrapper.state_dict()
    assert find_kept(runner, dict(optimizer=optimizer, param_schedulers=[cycle, steps])) is None
    group, now = optimizer['param_groups'][0], sorted(steps['milestones'])
    other = dict(
        optimizer=dict(optimizer, param_groups=[dict(group, initial_lr=0.5)]),
        param_schedulers=[cycle, dict(steps, milestones={3: 1})],
    )
    rate = f'learning rate 0.5 (the config: {group["initial_lr"]:g})'
    milestones = f'milestones of the schedule [3] (the config: {now})'
    assert find_kept(runner, other) == f'{rate}, {milestones}'
