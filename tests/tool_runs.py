"""Run a tool in the test's own process, and folders that are made once for all tests.

The fixtures over it are in conftest.py, which says how to use them.
"""

import contextlib
import copy
import importlib
import importlib.util
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import FileLock

from tresnet_det.cli.ending import run_tool
from tresnet_det.engine import config as edit
from tresnet_det.engine.guest import as_guest

ROOT = Path(__file__).resolve().parents[1]
CLASSES = tuple('0123456789')
LOADER = dict(batch_size=4, num_workers=0, persistent_workers=False, pin_memory=False)
# One block a stage, a quarter of the width: the mechanics, at a price that a test can pay.
TINY_ARCH = dict(depths=(1, 1, 1, 1), width_factor=0.25)
TINY = dict(
    model=dict(backbone=dict(arch=dict(_delete_=True, **TINY_ARCH), init_cfg=None)),
    train_dataloader=LOADER,
    val_dataloader=LOADER,
    test_dataloader=LOADER,
    train_cfg=dict(max_epochs=2, val_interval=1),
    param_scheduler=[dict(type='ConstantLR', factor=1.0, by_epoch=True, end=2)],
    default_hooks=dict(logger=dict(interval=1), checkpoint=dict(interval=1, max_keep_ckpts=3)),
)
DETECTOR = dict(
    model=dict(
        backbone=dict(frozen_stages=-1, norm_eval=False),
        neck=dict(in_channels=[32, 256, 512], out_channels=32),
        # The head's group norms have 32 groups: of one channel, a level of 1x1 has no variance.
        bbox_head=dict(num_classes=10, in_channels=32, feat_channels=64, stacked_convs=1),
        test_cfg=dict(score_thr=0.0, max_per_img=20),  # a head of six steps is sure of nothing
    )
)
CLASSIFIER = dict(model=dict(head=dict(in_channels=512)))
CONFIGS = dict(
    detection='fcos_tresnet_m.py',
    multilabel='multilabel_tresnet_m_448_coco2017.py',
    classification='transfer/tresnet_m_folders.py',
)


@dataclass
class Result:
    """What a tool came to: its exit status and what it printed."""

    code: int
    out: str
    err: str

    @property
    def printed(self) -> str:
        return self.out + self.err

    @property
    def error(self) -> str:
        """The one line that a user's mistake gets."""
        assert self.code == 2, self.printed
        (line,) = (line for line in self.err.splitlines() if 'error: ' in line)
        assert 'Traceback' not in self.printed
        return line


@dataclass
class Trained:
    """A training that is done; nothing of it may be changed."""

    config: Path
    work_dir: Path
    data_root: Path
    result: Result

    @property
    def checkpoint(self) -> Path:
        return self.work_dir / 'epoch_2.pth'

    @property
    def as_run(self) -> Path:
        """The config in the work directory, with what the command line changed."""
        return self.work_dir / self.config.name

    def logged(self, key: str) -> list[float]:
        return logged(self.work_dir, key)


def logged(work_dir: Path, key: str) -> list[float]:
    """All values of a key in the log that mmengine writes of a training."""
    (scalars,) = Path(work_dir).glob('*/vis_data/scalars.json')
    records = [json.loads(line) for line in scalars.read_text().splitlines()]
    return [record[key] for record in records if key in record]


def run_here(tool: str, *arguments: object, cwd: Path) -> Result:
    """Run ``main`` of a tool (``'train'``, or a script such as ``'benchmarks/heads'``)."""
    if '/' in tool:
        path = ROOT / f'{tool}.py'
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    else:
        path = ROOT / 'tools' / f'{tool}.py'
        module = importlib.import_module(f'tresnet_det.cli.{tool}')
    code = 0
    with process_state(), captured() as texts:
        sys.argv = [str(path), *map(str, arguments)]
        os.chdir(cwd)
        try:
            run_tool(module.main)
        except SystemExit as stop:
            code = stop.code or 0
    return Result(code, *texts)


@contextlib.contextmanager
def captured() -> Iterator[list[str]]:
    """Catch what is printed, by C code and child processes too; the list has it at the end."""
    texts: list[str] = []
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile('w+')) for _ in range(2)]
        streams = sys.stdout, sys.stderr
        for stream in streams:
            stream.flush()
        saved = os.dup(1), os.dup(2)
        for descriptor, file in enumerate(files, 1):
            os.dup2(file.fileno(), descriptor)
        sys.stdout, sys.stderr = (open(n, 'w', closefd=False, buffering=1) for n in (1, 2))  # noqa: SIM115
        try:
            yield texts
        finally:
            for stream in (sys.stdout, sys.stderr):
                stream.close()
            sys.stdout, sys.stderr = streams
            for descriptor, before in enumerate(saved, 1):
                os.dup2(before, descriptor)
                os.close(before)
            for file in files:
                file.seek(0)
                texts.append(file.read())


@contextlib.contextmanager
def process_state() -> Iterator[None]:
    """Put back what a tool changes for its whole process."""
    argv, cwd, threads = sys.argv, os.getcwd(), torch.get_num_threads()
    try:
        with as_guest():
            yield
    finally:
        sys.argv = argv
        os.chdir(cwd)
        torch.set_num_threads(threads)


def write_config(task: str, path: Path, data_root: Path, **changes: dict) -> Path:
    """Write a config of the project in miniature: 64 pixels, two epochs of few steps."""
    cfg = edit.load_config(ROOT / 'configs' / CONFIGS[task])
    if task == 'detection':
        cfg.merge_from_dict(edit.load_config('tresnet_det::_base_/demo_detection.py').to_dict())
    else:
        edit.drop_pretrained(cfg)
        for loader in edit.LOADERS:
            cfg[loader].dataset.pipeline = [dict(type='Resize', size=(64, 64))]
            if task == 'multilabel':
                cfg[loader].dataset.metainfo = dict(classes=CLASSES)
        if task == 'multilabel':
            cfg.model.head.num_classes = 10
    edit.set_data_root(cfg, data_root)
    for change in (TINY, DETECTOR if task == 'detection' else CLASSIFIER, changes):
        cfg.merge_from_dict(copy.deepcopy(change))  # merging takes _delete_ out
    cfg.dump(path)
    return path


def train_once(task: str, folder: Path, data_root: Path) -> None:
    """Train a task's miniature into an empty folder, and keep what was printed."""
    config = write_config(task, folder / 'tiny.py', data_root)
    result = run_here('train', config, '--work-dir', folder / 'work', cwd=folder)
    assert result.code == 0, result.printed
    (folder / 'printed.json').write_text(json.dumps([result.out, result.err]))


def read_trained(folder: Path, data_root: Path) -> Trained:
    result = Result(0, *json.loads((folder / 'printed.json').read_text()))
    return Trained(folder / 'tiny.py', folder / 'work', data_root, result)


def made_once(base: Path, name: str, make: Callable[[Path], object]) -> Path:
    """Return a folder that the first of all test processes makes, by ``make(folder)``."""
    if 'PYTEST_XDIST_WORKER' in os.environ:
        base = base.parent
    folder, done = base / name, base / f'{name}.done'
    with FileLock(base / f'{name}.lock'):
        if not done.is_file():
            shutil.rmtree(folder, ignore_errors=True)  # of a try that failed
            folder.mkdir()
            make(folder)
            done.touch()
    return folder
