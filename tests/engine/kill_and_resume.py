"""Kill trainings at random moments, and hold what they come to against one that was left alone.

    python tests/engine/kill_and_resume.py --task fcos --times 20

Each training is tools/train.py --resume in a process of its own, which SIGKILL ends: at any moment,
or while it writes a checkpoint. It is started again until it has ended by itself. The trainings
save by epoch and by iteration, with and without worker processes; the one that is left alone has
none.
"""

import argparse
import contextlib
import itertools
import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from PIL import Image

import tresnet_det  # noqa: F401  (prepares the stack)
from tresnet_det.cli import train
from tresnet_det.cli.run import run_tool
from tresnet_det.compat.checkpoint_io import load_checkpoint_file
from tresnet_det.engine import config as edit
from tresnet_det.engine import resume
from tresnet_det.engine.checkpoint_hook import RECORD, STATE
from tresnet_det.whole_files import UNFINISHED

ROOT = Path(__file__).resolve().parents[2]
TASKS = dict(fcos='fcos_tresnet_m.py', multilabel='multilabel_tresnet_m_448.py')
SAVING = ('by epoch', 'by iteration', 'without epochs')
EPOCHS, BATCH, IMAGES = 4, 4, (22, 8)  # of training and validation: the last batch has two
SIDE = 64
CLASSES = ('dark', 'light')
PATIENT = 600  # seconds until a training that hangs is an error
# Of wall time, or of the folder; everything else must be equal.
OTHER_META = {
    'time',
    'eta',
    'cfg',
    'experiment_name',
    'mmengine_version',
}  # the last: with git's hash
OTHER_SCALARS = {'train/time', 'train/data_time', 'val/time', 'val/data_time'}
NO_FIGURES = {'time', 'data_time', 'memory'}


def write_data(folder: Path) -> None:
    """Write noise with a dark or a light rectangle or two, in COCO's format."""
    rng = np.random.default_rng(0)
    for split, count in zip(('train', 'val'), IMAGES, strict=True):
        images, boxes = [], []
        (folder / split).mkdir(parents=True)
        for number in range(count):
            image = rng.integers(80, 176, (SIDE, SIDE, 3), dtype=np.uint8)
            for kind in rng.permutation(2)[: rng.integers(1, 3)]:
                (x, y), (w, h) = rng.integers(0, SIDE // 2, 2), rng.integers(12, SIDE // 2, 2)
                image[y : y + h, x : x + w] = 255 * kind
                box = dict(id=len(boxes) + 1, image_id=number, category_id=int(kind), iscrowd=0)
                boxes.append(dict(box, bbox=[int(v) for v in (x, y, w, h)], area=int(w * h)))
            name = f'{number}.png'
            Image.fromarray(image).save(folder / split / name)
            images.append(dict(id=number, file_name=name, width=SIDE, height=SIDE))
        categories = [dict(id=i, name=name) for i, name in enumerate(CLASSES)]
        content = dict(images=images, annotations=boxes, categories=categories)
        (folder / f'{split}.json').write_text(json.dumps(content))


def write_config(task: str, saving: str, workers: int, data: Path, path: Path) -> None:
    """Write a config of the project in miniature: a block a stage, all that is random on."""
    cfg = edit.load_config(ROOT / 'configs' / TASKS[task])
    for name, split in (('train', 'train'), ('val', 'val'), ('test', 'val')):
        loader = cfg[f'{name}_dataloader']
        loader.update(
            batch_size=BATCH, num_workers=workers, persistent_workers=workers > 0, pin_memory=False
        )
        loader.dataset.update(
            data_root=str(data),
            ann_file=f'{split}.json',
            data_prefix=dict(img=f'{split}/'),
            metainfo=dict(classes=CLASSES),
        )
    cfg.train_dataloader.drop_last = False
    cfg.model.backbone.update(
        arch=dict(depths=(1, 1, 1, 1), width_factor=0.25),
        drop_path_rate=0.2,
        frozen_stages=-1,
        norm_eval=False,
        init_cfg=None,
    )
    edit.set_num_classes(cfg, len(CLASSES))
    _shrink = dict(fcos=_shrink_fcos, multilabel=_shrink_multilabel)[task]
    _shrink(cfg, data)
    cfg.test_evaluator = cfg.val_evaluator
    warm = dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=7)
    cfg.param_scheduler = [
        warm,
        dict(type='LinearMomentum', start_factor=1, end_factor=0.9, by_epoch=False, end=15),
        dict(type='MultiStepLR', by_epoch=True, milestones=[2, 3]),
    ]
    per_epoch = -(-IMAGES[0] // BATCH)
    cfg.train_cfg = dict(by_epoch=True, max_epochs=EPOCHS, val_interval=1)
    if saving == 'without epochs':
        cfg.train_cfg = dict(by_epoch=False, max_iters=EPOCHS * per_epoch, val_interval=5)
        cfg.train_dataloader.sampler = dict(type='InfiniteSampler', shuffle=True)
        cfg.log_processor.by_epoch = False
        cfg.default_hooks.logger.log_metric_by_epoch = False
        cfg.param_scheduler[-1].update(by_epoch=False, milestones=[12, 18])
    cfg.default_hooks.checkpoint.update(
        interval=1 if saving == 'by epoch' else 4,
        by_epoch=saving == 'by epoch',
        max_keep_ckpts=2,
    )
    cfg.default_hooks.logger.interval = 1
    monitor = cfg.default_hooks.checkpoint.save_best
    cfg.custom_hooks = [hook for hook in cfg.custom_hooks if hook.type != 'CurvesHook']
    cfg.custom_hooks.append(dict(type='EarlyStoppingHook', monitor=monitor, patience=50))
    cfg.visualizer.vis_backends = [dict(type='LocalVisBackend')]
    cfg.dump(path)


def _shrink_fcos(cfg, data):
    cfg.model.neck.update(in_channels=[32, 256, 512], out_channels=32)
    cfg.model.bbox_head.update(in_channels=32, feat_channels=32, stacked_convs=1)
    cfg.train_dataloader.dataset.pipeline = [
        dict(type='LoadImage', on_error='raise'),
        dict(type='LoadAnnotations', with_bbox=True),
        dict(type='PhotoMetricDistortion'),
        dict(type='RandomChoiceResize', scales=[(64, 64), (80, 80)], keep_ratio=True),
        dict(type='RandomCrop', crop_size=(48, 48)),
        dict(type='RandomFlip', prob=0.5),
        dict(type='PackDetInputs'),
    ]
    _set_scale(cfg.val_dataloader.dataset.pipeline)
    cfg.optim_wrapper.optimizer.lr = 0.08
    cfg.val_evaluator.ann_file = str(data / 'val.json')


def _set_scale(pipeline):
    for transform in pipeline:
        if transform.type == 'Resize':
            transform.scale = (SIDE, SIDE)


def _shrink_multilabel(cfg, data):
    cfg.model.head.in_channels = 512
    cfg.optim_wrapper.optimizer.lr = 0.003
    cfg.train_dataloader.dataset.pipeline = [
        dict(type='RandomResizedCrop', size=SIDE, scale=(0.5, 1.0)),
        dict(type='RandomHorizontalFlip'),
        dict(type='Cutout', ratio=0.5),
        dict(type='RandAugment'),
    ]
    cfg.val_dataloader.dataset.pipeline = [dict(type='Resize', size=(SIDE, SIDE))]


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
    except SystemExit as stop:
        code = stop.code or 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def has_ended(child: int) -> bool:
    done, status = os.waitpid(child, os.WNOHANG)
    if done and status:
        raise AssertionError(f'a training ended with status {os.waitstatus_to_exitcode(status)}')
    return bool(done)


def kill(child: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)


def train_until(child: int, moment) -> bool:
    """Wait until the training has ended, or kill it as soon as ``moment()`` is true.

    Returns:
        Whether it ended by itself.
    """
    begin = time.monotonic()
    while not has_ended(child):
        if moment is not None and moment():
            kill(child)
            return False
        if time.monotonic() - begin > PATIENT:
            kill(child)
            raise AssertionError('a training hangs')
        time.sleep(0.002)
    return True


def at_time(seconds: float):
    """A moment after so many seconds."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() >= end


def in_a_write(work_dir: Path, count: int, delay: float):
    """A moment after the ``count``-th file began to be written."""
    state = dict(seen=0, there=set(), end=None)

    def has_come() -> bool:
        if state['end'] is not None:
            return time.monotonic() >= state['end']
        now = {path.name for path in work_dir.glob('*' + UNFINISHED)}
        state['seen'] += len(now - state['there'])
        state['there'] = now
        if state['seen'] >= count:
            state['end'] = time.monotonic() + delay
        return False

    return has_come


def check_folder(work_dir: Path, had: set[str]) -> None:
    """Hold what a killed training leaves against what is promised.

    Args:
        work_dir: Its folder.
        had: What was there once, ``'last'`` and ``'best'``; new ones are put in.
    """
    for path in work_dir.glob('*.pth'):
        assert resume._find_problem(path) is None, f'{path} is damaged'
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
        assert resume.find_last_checkpoint(work_dir) == record.read_text()


def compare(got, expected, where: str) -> int:
    """Hold two parts of checkpoints against each other, bit for bit; return the tensors in them."""
    if isinstance(expected, HistoryBuffer):
        for one, other in zip(got.data, expected.data, strict=True):
            assert np.array_equal(one, other, equal_nan=True), where
        return 0
    assert type(got) is type(expected), where
    if isinstance(expected, torch.Tensor):
        assert got.dtype == expected.dtype, where
        assert torch.equal(got, expected), f'{where}: {got.flatten()[:3]} {expected.flatten()[:3]}'
        return 1
    if isinstance(expected, dict):
        assert set(got) == set(expected), f'{where}: {set(got) ^ set(expected)}'
        return sum(compare(got[key], expected[key], f'{where}.{key}') for key in expected)
    if isinstance(expected, (list, tuple)):
        assert len(got) == len(expected), where
        pairs = enumerate(zip(got, expected, strict=True))
        return sum(compare(a, b, f'{where}.{i}') for i, (a, b) in pairs)
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
    return content


def read_figures(work_dir: Path) -> dict[tuple, dict]:
    """Return what the logs of all runs say, by kind and step; what is said twice must agree."""
    said: dict[tuple, dict] = {}
    for log in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for line in log.read_text().splitlines():
            try:
                record = json.loads(line)
            except json.JSONDecodeError:  # the kill's
                continue
            figures = {k: v for k, v in record.items() if k not in NO_FIGURES}
            key = ('lr' in record, record['step'])
            assert said.setdefault(key, figures) == figures, f'step {key} is logged otherwise'
    return said


def compare_folders(work_dir: Path, reference: Path) -> int:
    """Hold all files of a training against another's; return how many tensors were compared."""
    names = sorted(path.name for path in reference.glob('*.pth'))
    assert sorted(path.name for path in work_dir.glob('*.pth')) == names
    assert not list(work_dir.glob('*' + UNFINISHED))
    assert Path((work_dir / RECORD).read_text()).name == Path((reference / RECORD).read_text()).name
    assert read_figures(work_dir) == read_figures(reference)
    tensors = 0
    for name in names:
        one, other = (read_comparable(folder / name) for folder in (work_dir, reference))
        tensors += compare(one, other, name)
        if not name.startswith('best_'):
            assert {'optimizer', 'param_schedulers', 'ema_state_dict', STATE} <= set(other)
    return tensors


def run(folder: Path, task: str, times: int, seed: int) -> dict[str, int]:
    """Kill and resume so many trainings; an AssertionError says what was not as promised.

    Returns:
        Counts of trainings, kills, kills in a write, and compared tensors.
    """
    torch.set_num_threads(1)  # a pool of threads does not outlive a fork
    rng = random.Random(seed)
    write_data(folder / 'data')
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
            moment, slow, what = None, False, ''
            if attempt == 0 or (attempt < 3 and rng.random() < 0.5):
                slow = rng.random() < 0.5
                if slow:
                    count, delay = rng.randint(1, 8), rng.uniform(0, 0.06)
                    moment = in_a_write(work_dir, count, delay)
                    what = f'{1e3 * delay:.0f} ms into write {count}'
                else:
                    after = rng.uniform(0, 1.1 * seconds)
                    moment, what = at_time(after), f'after {after:.2f} s'
            if train_until(start(config, work_dir, slow), moment):
                break
            writing = [path.name for path in work_dir.glob('*' + UNFINISHED)]
            counts['kills'] += 1
            counts['in_writes'] += bool(writing)
            said.append(what + ''.join(f' ({name})' for name in writing))
            check_folder(work_dir, had)
        tensors = compare_folders(work_dir, reference)
        counts['tensors'] += tensors
        counts['trainings'] += 1
        print(
            f'{task} {number}, saved {saving}, {workers} workers: killed '
            f'{", ".join(said) or "never: it was too quick"}; {tensors} tensors equal',
            flush=True,
        )
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
        f'({counts["tensors"]} tensors and all logged figures equal)'
    )


if __name__ == '__main__':
    main()
