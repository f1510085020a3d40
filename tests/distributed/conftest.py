"""Several processes from one that has imported everything, and what they run."""

import multiprocessing
import os
import socket
import time
from types import SimpleNamespace

import distributed_children
import pytest

from tresnet_det.datasets.demo.digits import make_demo_data
from tresnet_det.engine import config as edit

LIMIT = 60  # seconds until all processes must have ended
LOADER = dict(batch_size=8, num_workers=0, persistent_workers=False)
IMPORTS = [
    'tresnet_det.cli.command_line',
    'mmdet.models',
    'mmdet.datasets',
    'matplotlib.pyplot',
    'torch.utils.tensorboard',
]


@pytest.fixture(scope='session')
def server():
    """A process without threads or groups of its own, from which all others are forked."""
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(IMPORTS)
    return context


@pytest.fixture
def start(server, tmp_path):
    """Run a function of ``distributed_children`` in several processes, as torchrun would.

    ``start(2, function, ...)`` returns each one's exit code, stdout and stderr, and the seconds
    that all took. With ``launcher='slurm'`` it is Slurm's environment; ``alone=True`` sets none.
    """

    def call(count, function, *arguments, launcher='pytorch', alone=False):
        port = free_port()
        folder = tmp_path / f'run_{port}'
        folder.mkdir()
        processes = []
        for rank in range(count):
            place = dict(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
            if launcher == 'slurm':
                place = dict(SLURM_JOB_ID=str(port), SLURM_NTASKS=str(count))
                place |= dict(SLURM_PROCID=str(rank), SLURM_LOCALID=str(rank))
                place |= dict(SLURM_TASKS_PER_NODE=str(count))
            elif not alone:
                place |= dict(RANK=str(rank), LOCAL_RANK=str(rank))
                place |= dict(WORLD_SIZE=str(count), LOCAL_WORLD_SIZE=str(count))
            files = (str(folder / f'out_{rank}'), str(folder / f'err_{rank}'))
            target = (place, files, str(tmp_path), function, arguments)
            process = server.Process(target=distributed_children.run_child, args=target)
            process.start()
            processes.append(process)
        start = time.monotonic()
        for process in processes:
            process.join(max(0, LIMIT - (time.monotonic() - start)))
        seconds = time.monotonic() - start
        hanging = [process for process in processes if process.exitcode is None]
        for process in hanging:
            process.kill()
            process.join()
        assert not hanging, f'{len(hanging)} of {count} processes did not end in {LIMIT} s'
        return [
            SimpleNamespace(
                code=process.exitcode,
                out=(folder / f'out_{rank}').read_text(),
                err=(folder / f'err_{rank}').read_text(),
                seconds=seconds,
            )
            for rank, process in enumerate(processes)
        ]

    return call


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


@pytest.fixture(scope='session')
def digits(tmp_path_factory):
    """64 images to train on, 13 to validate on, 64 pixels."""
    folder = tmp_path_factory.mktemp('digits') / 'data'
    return make_demo_data(folder, num_train=64, num_val=13, size=64)


@pytest.fixture
def write_config(digits, project_root, tmp_path, tiny_arch):
    """Write a config of the project in miniature, without augmentation: ``write_config(task)``."""

    def write(task, *changes, data_root=digits):
        configs = project_root / 'configs'
        source = {'detection': 'fcos_tresnet_m', 'multilabel': 'multilabel_tresnet_m_448'}[task]
        cfg = edit.load_config(configs / f'{source}.py')
        edit.put_over(cfg, edit.load_config(configs / '_base_' / f'demo_{task}.py'))
        edit.set_data_root(cfg, data_root)
        edit.set_num_classes(cfg, 10)
        edit.use_random_weights(cfg)
        loaders = {f'{name}_dataloader': LOADER for name in ('train', 'val', 'test')}
        backbone = dict(arch=dict(_delete_=True, **tiny_arch))
        backbone |= dict(norm_cfg=dict(type='InPlaceABN', sync=True))
        if task == 'detection':
            head = dict(in_channels=32, feat_channels=64, stacked_convs=1)  # GN of 32 groups
            model = dict(backbone=backbone, bbox_head=head)
            model |= dict(neck=dict(in_channels=[32, 256, 512], out_channels=32))
        else:
            model = dict(backbone=backbone, head=dict(in_channels=512))
        hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=1))
        base = dict(model=model, train_cfg=dict(max_epochs=3, val_interval=3), default_hooks=hooks)
        for change in ({**base, **loaders}, *changes):
            cfg.merge_from_dict(change)
        for name in loaders:
            for step in cfg[name].dataset.pipeline:
                if step.type == 'Resize' and task == 'detection':
                    step.scale = (64, 64)
            cfg[name].dataset.pipeline = [
                step for step in cfg[name].dataset.pipeline if 'Random' not in step.type
            ]
        path = tmp_path / f'{task}_{len(list(tmp_path.glob("*.py")))}.py'
        cfg.dump(path)
        return path

    return write


@pytest.fixture(scope='module', autouse=True)
def _one_thread():
    """One thread a process: the children inherit the server's environment.

    Only as long as a file of these tests runs: what other tests start may use every core.
    """
    before = os.environ.get('OMP_NUM_THREADS')
    os.environ['OMP_NUM_THREADS'] = '1'
    yield
    if before is None:
        os.environ.pop('OMP_NUM_THREADS')
    else:
        os.environ['OMP_NUM_THREADS'] = before
