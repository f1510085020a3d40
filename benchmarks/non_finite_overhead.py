"""Measure what StopOnNonFiniteHook costs a training step.

A detector's training step with the hook and without takes turns in one process, and each is
compared with the other of its pair. Beside it stands what the hook does in an iteration, timed
alone, over the step: that is to be trusted where the machine is shared. Both for gradients that are
clipped by their norm, which mmengine computes then, and for those whose norm the hook computes.
On a CPU, times are those of the process itself, which others on the machine do not lengthen by
waiting; use one thread (OMP_NUM_THREADS=1).
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import torch

from tresnet_det.cli.arguments import out_file
from tresnet_det.cli.run import run_tool
from tresnet_det.engine import StopOnNonFiniteHook
from tresnet_det.engine import config as edit
from tresnet_det.profiling.comparison import flatten
from tresnet_det.profiling.detectors import DetectorRun
from tresnet_det.profiling.report import Column, describe, format_table, write_csv
from tresnet_det.profiling.settings import Settings
from tresnet_det.profiling.timing import Spread, order_of_round

CONFIG = Path(__file__).resolve().parents[1] / 'configs' / 'fcos_tresnet_m.py'
REPEATS = 51  # of what is timed alone
COLUMNS = [
    Column('gradients', 'gradients'),
    Column('step, ms', 'step_ms'),
    Column('with the hook, % more', 'percent_more'),
    Column('half of the pairs, from', 'percent_more_lower_quartile'),
    Column('to', 'percent_more_upper_quartile'),
    Column('hook alone, ms', 'hook_ms'),
    Column('% of the step', 'hook_percent'),
]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--config', default=str(CONFIG), help='a detector (default: FCOS on M)')
    parser.add_argument('--size', type=int, default=320, help='pixels a side')
    parser.add_argument('--batch-size', type=int, default=2)
    parser.add_argument('--rounds', type=int, default=25, help='pairs of steps')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--out', type=Path, metavar='PREFIX', help='write PREFIX.csv')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    settings = Settings(
        torch.device(args.device),
        batch_size=args.batch_size,
        rounds=args.rounds,
        min_seconds=0.0,  # one step
        fuse=False,
    )
    if args.out:
        out_file(args.out)
    rows = []
    for gradients in ('clipped', 'not clipped'):
        cfg = edit.load_config(args.config)
        if gradients == 'not clipped':
            cfg.optim_wrapper.pop('clip_grad', None)
        run = DetectorRun(cfg, settings, args.size)
        rows.append({'gradients': gradients} | measure(run, settings))
    print(format_table(rows, COLUMNS))
    if args.out:
        write_csv(args.out.with_name(f'{args.out.name}.csv'), rows, describe(settings))


def measure(run: DetectorRun, settings: Settings) -> dict[str, float]:
    """Return a row: the step, what the hook adds pair by pair, and the hook alone."""
    hook = StopOnNonFiniteHook()
    runner = SimpleNamespace(model=run.model, optim_wrapper=run.optim_wrapper, iter=0)

    def step() -> dict[str, torch.Tensor]:
        outputs = run.model.train_step(run.data, run.optim_wrapper)
        for value in outputs.values():  # as mmengine's hook does for the log
            value.item()
        return outputs

    def guarded_step() -> None:
        hook.before_train_iter(runner, 0, run.data)
        hook.after_train_iter(runner, 0, run.data, step())

    sides = {
        step: (lambda: hook.after_train(runner), []),
        guarded_step: (lambda: hook.before_train(runner), []),
    }
    run.model.train()
    for number in range(-1, settings.rounds):  # one to warm up
        for index in order_of_round(max(number, 0), 2):
            function, (prepare, times) = list(sides.items())[index]
            prepare()
            seconds = timed(function, settings)
            if number >= 0:
                times.append(seconds)
    without, guarded = (times for _, times in sides.values())
    more = [100 * (b / a - 1) for a, b in zip(without, guarded, strict=True)]
    lower, _, upper = statistics.quantiles(more, n=4)
    step_ms = 1000 * statistics.median(without)
    hook_ms = 1000 * hook_alone(run, hook, runner)
    return {
        'step_ms': step_ms,
        **flatten('percent_more', Spread.of(more)),
        'percent_more_lower_quartile': lower,
        'percent_more_upper_quartile': upper,
        'hook_ms': hook_ms,
        'hook_percent': 100 * hook_ms / step_ms,
    }


def hook_alone(run: DetectorRun, hook: StopOnNonFiniteHook, runner: SimpleNamespace) -> float:
    """Return the seconds of what the hook does in an iteration, on real gradients.

    That is an update with it less one without, both without backward pass, step and zeroing.
    """
    hook.after_train(runner)
    data = run.model.data_preprocessor(run.data, True)
    loss, log_vars = run.model.parse_losses(run.model(**data, mode='loss'))
    loss.backward()
    loss, log_vars = loss.detach(), {name: value.detach() for name, value in log_vars.items()}
    wrapper = run.optim_wrapper
    wrapper.backward = wrapper.zero_grad = wrapper.optimizer.step = lambda *args, **kwargs: None

    def update() -> None:
        wrapper.update_params(loss)
        for value in log_vars.values():
            value.item()

    def guarded_update() -> None:
        outputs = dict(log_vars)
        hook.before_train_iter(runner, 0, run.data)
        hook._guard._keep_batch(run.model.data_preprocessor, (), data)
        hook._guard.losses = outputs
        wrapper.update_params(loss)
        hook.after_train_iter(runner, 0, run.data, outputs)
        for value in outputs.values():
            value.item()

    seconds = {update: [], guarded_update: []}
    for _ in range(REPEATS):
        for function, times in seconds.items():
            (hook.before_train if function is guarded_update else hook.after_train)(runner)
            function()  # the first copy of the running statistics makes its memory
            times.append(timed(function, run.settings))
    return statistics.median(seconds[guarded_update]) - statistics.median(seconds[update])


def timed(function: Callable[[], object], settings: Settings) -> float:
    """Return the seconds that a call takes."""
    on_gpu = settings.device.type == 'cuda'
    clock = time.perf_counter if on_gpu else time.process_time
    start = clock()
    function()
    if on_gpu:
        torch.cuda.synchronize()
    return clock() - start


if __name__ == '__main__':
    run_tool(main)
