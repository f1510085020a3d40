"""Kill trainings at random moments, and compare what they come to with one that was left alone.

    python tests/engine/kill_and_resume.py --task fcos --times 20

Each training is tools/train.py --resume in a process of its own, which SIGKILL ends: at any moment,
or while it writes a checkpoint. It is started again until it has ended by itself. The trainings
save by epoch and by iteration, with and without worker processes; the one that is left alone has
none.
"""

import argparse
import contextlib
import itertools
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))
import tool_runs
import torch
from mmengine.logging import HistoryBuffer

import tresnet_det  # noqa: F401  (prepares the stack)
from tresnet_det.cli import train
from tresnet_det.cli.ending import run_tool
from tresnet_det.compat.checkpoint_io import load_checkpoint_file
from tresnet_det.datasets.demo.digits import make_demo_data
from tresnet_det.engine import config as edit
from tresnet_det.engine.checkpoint_hook import RECORD, STATE
from tresnet_det.engine.work_dir import _find_problem, find_last_checkpoint
from tresnet_det.files import UNFINISHED

TASKS = dict(fcos='detection', multilabel='multilabel')
SAVING = ('by epoch', 'by iteration', 'without epochs')
EPOCHS, BATCH, IMAGES = 4, 4, (22, 8)  # of training and validation: the last batch has two
PATIENT = 600  # seconds until a training that hangs is an error
# Of wall time, or of the folder; everything else must be equal.
OTHER_META = {'time', 'eta', 'cfg', 'experiment_name', 'mmengine_version'}  # with git's hash
OTHER_SCALARS = {'train/time', 'train/data_time', 'val/time', 'val/data_time'}


def write_config(task: str, saving: str, workers: int, data: Path, path: Path) -> None:
    """Write a config of the project in miniature: a block a stage, all that is random on."""
    cfg = edit.load_config(tool_runs.write_config(TASKS[task], path, data))
    for name in edit.LOADERS:
        cfg[name].update(num_workers=workers, persistent_workers=workers > 0)
    cfg.train_dataloader.drop_last = False
    cfg.model.backbone.drop_path_rate = 0.2
    steps = cfg.train_dataloader.dataset.pipeline
    if task == 'fcos':
        steps[-1:-1] = [dict(type='PhotoMetricDistortion'), dict(type='RandomFlip', prob=0.5)]
    else:
        steps += [dict(type='Cutout', ratio=0.5), dict(type='RandAugment')]
    warm = dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=7)
    cfg.param_scheduler = [
        warm,
        dict(type='LinearMomentum', start_factor=1, end_factor=0.9, by_epoch=False, end=15),
        dict(type='MultiStepLR', by_epoch=True, milestones=[2, 3]),
    ]
    if task != 'fcos' and saving != 'without epochs':  # as the classifiers' configs have it
        cycle = dict(by_epoch=False, warmup=0.3)
        cfg.param_scheduler = [
            dict(cycle, type='WarmupCosineLR', eta_min_ratio=0.01),
            dict(cycle, type='WarmupCosineMomentum', high=0.95, low=0.85),
        ]
    cfg.optim_wrapper.optimizer = dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=1e-4)
    cfg.train_cfg = dict(by_epoch=True, max_epochs=EPOCHS, val_interval=1)
    if saving == 'without epochs':
        length = EPOCHS * -(-IMAGES[0] // BATCH)
        cfg.train_cfg = dict(by_epoch=False, max_iters=length, val_interval=5)
        cfg.train_dataloader.sampler = dict(type='InfiniteSampler', shuffle=True)
        cfg.log_processor.by_epoch = False
        cfg.default_hooks.logger.log_metric_by_epoch = False
        cfg.param_scheduler[-1].update(by_epoch=False, milestones=[12, 18])
    by_epoch = saving == 'by epoch'
    cfg.default_hooks.checkpoint.update(
        interval=1 if by_epoch else 4, by_epoch=by_epoch, max_keep_ckpts=2
    )
    monitor = cfg.default_hooks.checkpoint.save_best
    cfg.custom_hooks = [hook for hook in cfg.custom_hooks if hook.type != 'CurvesHook']
    cfg.custom_hooks.append(dict(type='EarlyStoppingHook', monitor=monitor, patience=50))
    cfg.visualizer.vis_backends = [dict(type='LocalVisBackend')]
    cfg.dump(path)


def start(config: Path, work_dir: Path, slow_writes: bool) -> int:
    """Fork a process that trains; return its number, which is its group's too."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.setsid()  # with its workers
        with open(f'{work_dir}.log', 'a') as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        if slow_writes:
            to_disk = os.fsync
            os.fsync = lambda file: (time.sleep(0.03), to_disk(file), time.sleep(0.03))
        sys.argv = ['train.py', str(config), '--work-dir', str(work_dir), '--resume']
        run_tool(train.main)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def train_until(child: int, moment) -> bool:
    """Wait until the training has ended, or kill it as soon as ``moment()`` is true.

    Returns:
        Whether it ended by itself.
    """
    begin = time.monotonic()
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert not status, f'a training ended with {os.waitstatus_to_exitcode(status)}'
            return True
        hangs = time.monotonic() - begin > PATIENT
        if hangs or (moment is not None and moment()):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            assert not hangs, 'a training hangs'
            return False
        time.sleep(0.002)


def at_time(seconds: float):
    """A moment after so many seconds."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() >= end


def in_a_write(work_dir: Path, count: int, delay: float):
    """A moment after the ``count``-th file began to be written."""
    seen, there, has_come = 0, set(), None

    def look() -> bool:
        nonlocal seen, there, has_come
        if has_come is None:
            now = {path.name for path in work_dir.glob('*.pth.*' + UNFINISHED)}
            seen, there = seen + len(now - there), now
            has_come = at_time(delay) if seen >= count else None
        return has_come is not None and has_come()

    return look


def check_folder(work_dir: Path, had: set[str]) -> None:
    """Check that a killed training leaves what is promised.

    Args:
        work_dir: Its folder.
        had: What was there once, ``'last'`` and ``'best'``; new ones are put in.
    """
    for path in work_dir.glob('*.pth'):
        assert _find_problem(path) is None, f'{path} is damaged'
    record = work_dir / RECORD
    assert record.is_file() or 'last' not in had, 'last_checkpoint is gone'
    best = list(work_dir.glob('best_*.pth'))
    assert best or 'best' not in had, 'the best checkpoint is gone'
    had |= {'best'} if best else set()
    if record.is_file():
        had.add('last')
        last = load_checkpoint_file(record.read_text())
        known = last['message_hub']['runtime_info'].get('best_ckpt')
        assert known is None or Path(known).is_file(), f'{known}, known to the last one, is gone'
        assert find_last_checkpoint(work_dir) == record.read_text()


def compare(got, expected, where: str) -> int:
    """Compare two parts of checkpoints, bit for bit; return the number of tensors in them."""
    if isinstance(expected, HistoryBuffer):
        got, expected = (tuple(map(torch.from_numpy, b.data)) for b in (got, expected))
    assert type(got) is type(expected), where
    if isinstance(expected, torch.Tensor):
        assert got.dtype == expected.dtype, where
        torch.testing.assert_close(got, expected, rtol=0, atol=0, equal_nan=True, msg=where)
        return 1
    if isinstance(expected, (list, tuple)):
        got, expected = dict(enumerate(got)), dict(enumerate(expected))
    if isinstance(expected, dict):
        assert set(got) == set(expected), f'{where}: {set(got) ^ set(expected)}'
        return sum(compare(got[key], expected[key], f'{where}.{key}') for key in expected)
    assert got == expected or (got != got and expected != expected), f'{where}: {got} {expected}'
    return 0


def read_comparable(path: Path) -> dict:
    """Read a checkpoint without what depends on its folder and on the time."""
    content = load_checkpoint_file(path)
    content['meta'] = {k: v for k, v in content['meta'].items() if k not in OTHER_META}
    hub = content['message_hub']
    scalars, info = hub['log_scalars'], hub['runtime_info']
    hub['log_scalars'] = {k: v for k, v in scalars.items() if k not in OTHER_SCALARS}
    hub['runtime_info'] = {
        k: Path(v).name if isinstance(v, str) and '_ckpt' in k else v
        for k, v in info.items()
        if k not in OTHER_META | {'epoch', 'iter'}  # mmengine's counts of where a run began
    }
    content.get(STATE, {}).pop('seconds', None)
    return content


def compare_folders(work_dir: Path, reference: Path) -> int:
    """Compare all files of a training with another's; return how many tensors were compared."""
    names = sorted(path.name for path in reference.glob('*.pth'))
    assert sorted(path.name for path in work_dir.glob('*.pth')) == names
    assert not list(work_dir.glob('*' + UNFINISHED))
    assert Path((work_dir / RECORD).read_text()).name == Path((reference / RECORD).read_text()).name
    pairs = ((read_comparable(work_dir / n), read_comparable(reference / n), n) for n in names)
    return sum(compare(*pair) for pair in pairs)


def run(folder: Path, task: str, times: int, seed: int) -> dict[str, int]:
    """Kill and resume so many trainings; an AssertionError says what was not as promised.

    Returns:
        Counts of trainings, kills, kills in a write, and compared tensors.
    """
    torch.set_num_threads(1)  # a pool of threads does not outlive a fork
    rng = random.Random(seed)
    make_demo_data(folder / 'data', *IMAGES, size=64)
    references: dict[str, tuple[Path, float]] = {}
    counts = dict(trainings=0, kills=0, in_writes=0, tensors=0)
    kinds = zip(itertools.cycle(SAVING), itertools.cycle((2, 0)))  # all pairs, in six trainings
    for number, (saving, workers) in zip(range(times), kinds, strict=False):
        config = folder / f'run_{number}.py'
        if saving not in references:
            alone = folder / ('alone_' + saving.replace(' ', '_'))
            write_config(task, saving, 0, folder / 'data', config)
            begin = time.monotonic()
            train_until(start(config, alone, slow_writes=False), None)
            references[saving] = alone, time.monotonic() - begin
        reference, seconds = references[saving]
        write_config(task, saving, workers, folder / 'data', config)
        work_dir, had, said = folder / f'run_{number}', set(), []
        for attempt in itertools.count():
            moment = None
            # The first write of every other training is sure to come; a random moment may be late.
            sure = attempt == 0 and number % 2 == 0
            slow = sure or rng.random() < 0.5
            if attempt == 0 or (attempt < 3 and rng.random() < 0.5):
                moment = at_time(rng.uniform(0, 1.1 * seconds))
                if slow:
                    count = 1 if sure else rng.randint(1, 8)
                    moment = in_a_write(work_dir, count, rng.uniform(0, 0.06))
            if train_until(start(config, work_dir, slow), moment):
                break
            writing = [path.name for path in work_dir.glob('*.pth.*' + UNFINISHED)]
            counts['kills'] += 1
            counts['in_writes'] += bool(writing)
            said.append('in a write' if slow else 'at a random moment')
            check_folder(work_dir, had)
        tensors = compare_folders(work_dir, reference)
        counts['tensors'] += tensors
        counts['trainings'] += 1
        killed = ', '.join(said) or 'never: it was too quick'
        print(f'{task} {number}, saved {saving}, {workers} workers: killed {killed}; '
              f'{tensors} tensors equal', flush=True)  # fmt: skip
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--task', choices=TASKS, required=True)
    parser.add_argument('--times', type=int, default=20)
    parser.add_argument('--seed', type=int, default=None, help='of the moments; default: new')
    parser.add_argument('--folder', type=Path, help='keep everything there, a new folder')
    args = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if args.seed is None else args.seed
    print(f'seed {seed}')
    with tempfile.TemporaryDirectory() as temporary:
        counts = run(args.folder or Path(temporary), args.task, args.times, seed)
    print(
        f'{counts["trainings"]} trainings, killed {counts["kills"]} times, '
        f'{counts["in_writes"]} of them in a write: all ended as the one that was left alone '
        f'({counts["tensors"]} tensors equal)'
    )


if __name__ == '__main__':
    main()
