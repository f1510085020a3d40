"""Whatever the number of steps, a training reaches the learning rate that the config has."""

import copy

import pytest
import torch
from mmengine.registry import PARAM_SCHEDULERS
from mmengine.runner import Runner

from tresnet_det.engine import ResumableEpochTrainLoop, ResumableIterTrainLoop, WarmupCosineLR
from tresnet_det.engine.train_loops import fit_warmup

DECAY = dict(type='MultiStepLR', begin=0, end=12, milestones=[8, 11], gamma=0.1)
LINEAR = dict(type='LinearLR', start_factor=0.001)
CASES = {
    'by steps': dict(LINEAR, by_epoch=False, end=1000),
    'by one step': dict(LINEAR, by_epoch=False, end=1),
    'by an epoch': dict(LINEAR, by_epoch=True, end=1),
    'by epochs': dict(LINEAR, end=5),
    'by epochs, converted': dict(LINEAR, by_epoch=True, end=3, convert_to_iter_based=True),
    'of any value': dict(
        type='LinearParamScheduler', param_name='lr', start_factor=0.001, by_epoch=False, end=99
    ),
    'constant': dict(type='ConstantLR', factor=0.1, by_epoch=False, end=500),
    'a constant epoch': dict(type='ConstantLR', factor=0.1, end=1),
    'quadratic': dict(type='mmdet.QuadraticWarmupLR', by_epoch=False, end=300),
    'quadratic by epochs': dict(type='mmdet.QuadraticWarmupLR', end=5, convert_to_iter_based=True),
}


def rates(configs, epochs, steps):
    """The learning rate of each step, by MMEngine's schedulers."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    options = dict(optimizer=optimizer, epoch_length=steps)
    built = [PARAM_SCHEDULERS.build(copy.deepcopy(c), default_args=options) for c in configs]
    optimizer.step()
    for step in range(1, epochs * steps + 1):
        yield optimizer.param_groups[0]['lr']
        for scheduler in built:
            if not scheduler.by_epoch or step % steps == 0:
                scheduler.step()


@pytest.mark.parametrize('name', CASES)
@pytest.mark.parametrize('decay', [[], [DECAY]], ids=['alone', 'with milestones'])
def test_every_number_of_steps_reaches_the_rate(name, decay):
    for total in range(1, 2001):
        for epochs in {e for e in (1, 2, 3, 12, total) if total % e == 0}:
            steps, configs = total // epochs, copy.deepcopy([CASES[name], *decay])
            changed = fit_warmup(configs, steps, total, True, 0.5)
            assert not fit_warmup(configs, steps, total, True, 0.5)
            warmup = configs[0]
            unit = 1 if not warmup.get('by_epoch', True) else steps
            whole = unit > 1 and 'convert_to_iter_based' not in warmup
            # In closed form: the step from which on it is the config's.
            first = (warmup['end'] - 1) * unit if whole else warmup['end'] * unit - 1
            factors = {warmup.get('start_factor'), warmup.get('factor')} - {None}
            assert first < total
            assert first > 0 or factors <= {1.0}
            if not changed:
                assert warmup == CASES[name]
            if total in (1, 2, 3, 4, 5, 7, 12, 36, 120, 1999):
                reached = list(rates(configs, epochs, steps))
                assert max(reached) == pytest.approx(1), (total, epochs, warmup)
                assert reached[min(first, total - 1)] == pytest.approx(1)


def test_one_cycle_reaches_the_rate():
    for total in range(1, 2001):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        cycle = WarmupCosineLR(optimizer, total, warmup=0.01, eta_min_ratio=0.1, by_epoch=False)
        reached = []
        optimizer.step()
        for _ in range(round(total * 0.01) + 1):
            reached.append(optimizer.param_groups[0]['lr'])
            cycle.step()
        assert max(reached) == pytest.approx(1), total


@pytest.mark.parametrize(('total', 'peak'), [(2, 0.75), (6, 0.95), (60, 0.99), (499, 0.999)])
def test_a_cycle_that_is_too_long_reaches_the_rate(total, peak):
    configs = [dict(type='OneCycleLR', eta_max=1.0, total_steps=500, by_epoch=False)]
    assert len(fit_warmup(configs, total, total, True, 1)) == 1
    assert fit_warmup(configs, total, total, True, 1) == []
    assert peak < max(rates(configs, 1, total)) <= 1


def test_what_is_no_warm_up_stays():
    configs = [
        dict(type='ConstantLR', factor=1.0, end=1),
        dict(type='LinearLR', start_factor=1.0, end_factor=0.1, end=99),
        dict(type='LinearLR', begin=3, end=99),
        dict(type='CosineAnnealingLR', T_max=99, end=99),
        dict(LINEAR, end=2),
    ]
    kept = copy.deepcopy(configs)
    assert fit_warmup(configs, 10, 40, True, 0.5) == []
    assert configs == kept


class Images(torch.utils.data.Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        return index


@pytest.mark.parametrize(
    'loop',
    [
        dict(type=ResumableEpochTrainLoop, max_epochs=3),
        dict(type=ResumableIterTrainLoop, max_iters=5),
    ],
    ids=['epochs', 'steps'],
)
@pytest.mark.parametrize('warmup', ['by an epoch', 'by steps'])
def test_the_loops_change_what_would_never_end(loop, warmup, tmp_path):
    runner = Runner(
        torch.nn.Linear(1, 1), str(tmp_path), train_cfg=loop, experiment_name=str(tmp_path),
        train_dataloader=dict(dataset=Images(), batch_size=8, sampler=dict(type='DefaultSampler')),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=1.0)),
        param_scheduler=[copy.deepcopy(CASES[warmup])],
    )  # fmt: skip
    runner.build_train_loop(runner._train_loop)
    (fitted,) = runner.param_schedulers
    assert (fitted['end'], fitted['by_epoch'], fitted['start_factor']) == (1, False, 1.0)
