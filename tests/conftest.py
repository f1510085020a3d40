"""Fixtures for all tests; those that train do it once, for all tests and all of xdist's processes.

Only read what these give; a test that changes files makes a copy first (``data``, ``tiny_config``):

    demo_data        COCO data of handwritten digits: 12 training, 6 validation images, 64 pixels
    class_folders    train/ and val/ with four images of each of three classes
    trained(TASK)    a miniature that was trained for two epochs by tools/train.py, as a `Trained`:
                     .config .work_dir .checkpoint .as_run .data_root .result .logged(KEY). TASK is
                     'detection', 'multilabel' (both on demo_data) or 'classification' (on
                     class_folders). About 5 s where it is asked for first

For a test alone:

    run(TOOL, ...)   a tool in this process, in tmp_path: `Result` with .code .out .err .printed and
                     .error, the one line of a user's mistake. It leaves no scope, logger, message
                     hub, visualizer, thread count, environment or folder behind. Take a subprocess
                     only where a process is the point: signals, pipes, exit, imports
    data             a copy of demo_data that may be damaged: .folder, .edit(SPLIT, FUNCTION)
    tiny_config(TASK, data_root=..., **CHANGES)
                     writes the config of `trained` into tmp_path, changed; returns its path
    tiny_arch        one block a stage, a quarter of the width
    serve(FOLDER)    serves it on this machine, and at /drip a byte every twentieth of a second;
                     returns the URL
"""

import contextlib
import gc
import hashlib
import json
import os
import pickle
import shutil
import sys
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import tool_runs
import torch
from hypothesis import HealthCheck, settings
from process_start import start  # noqa: F401  (a fixture)

import tresnet_det  # noqa: F401  (prepares the stack before a test imports MMDetection)
from tresnet_det.engine.guest import forget_runs

# As the package sets it; OpenCV reads it once a process, and some test opens a video by itself.
os.environ.setdefault('OPENCV_FFMPEG_LOGLEVEL', '-8')

# Random inputs: the same few in every run, or many new ones by --hypothesis-profile=bulk.
_ANY_PACE = dict(deadline=None, database=None, suppress_health_check=list(HealthCheck))
settings.register_profile('fast', derandomize=True, max_examples=50, **_ANY_PACE)
settings.register_profile('bulk', max_examples=500, **_ANY_PACE)
settings.load_profile('fast')

ROOT = Path(__file__).resolve().parents[1]

CIFAR10_NAMES = (
    'airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck',
)  # fmt: skip


@pytest.hookimpl(tryfirst=True)  # before xdist reads the marks
def pytest_collection_modifyitems(items):
    """What a process makes once, for the tests of a file or folder, is made by one process."""
    for item in items:
        used = item._fixtureinfo.name2fixturedefs
        shared = {each[-1].baseid for each in used.values() if each[-1].scope != 'function'}
        if places := sorted(shared - {'', 'tests'}, key=len):
            item.add_marker(pytest.mark.xdist_group(places[0]))


_modules = 0  # that were there when garbage was last collected from among them


@pytest.fixture(autouse=True)
def _modules_are_no_garbage():
    """mmengine collects garbage twice for each dataset: half a second each in a heap of modules."""
    global _modules
    if len(sys.modules) > _modules + 50:
        _modules = len(sys.modules)
        gc.collect()
        gc.freeze()


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(scope='session', autouse=True)
def _plain_configs():
    """Configs are kept as mmengine writes them before it beautifies them, a second each time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('mmengine.config.config.FormatCode', lambda text, **style: (text, True))
        yield


@pytest.fixture(autouse=True)
def _no_other_run():
    """Begin and end without what mmengine keeps of a run for the whole process."""
    forget_runs()
    yield
    forget_runs()


@pytest.fixture(scope='session')
def project_root() -> Path:
    return ROOT


@pytest.fixture(scope='session')
def real_data() -> Path:
    """The folder of real images; the test is skipped, saying so, where it is absent."""
    folder = Path(os.environ.get('TRESNET_DET_DATA', ROOT.parent / 'shared' / 'data'))
    if not folder.is_dir():
        pytest.skip(f'no real data at {folder}: set TRESNET_DET_DATA')
    return folder


@pytest.fixture
def tiny_arch() -> dict:
    return dict(tool_runs.TINY_ARCH)


@pytest.fixture(scope='session')
def demo_data(tmp_path_factory) -> Path:
    from tresnet_det.datasets.demo.digits import make_demo_data

    def make(folder: Path) -> None:
        make_demo_data(folder / 'data', num_train=12, num_val=6, size=64)

    return tool_runs.made_once(tmp_path_factory.getbasetemp(), 'demo', make) / 'data'


@pytest.fixture(scope='session')
def class_folders(tmp_path_factory) -> Path:
    def make(folder: Path) -> None:
        rng = np.random.default_rng(0)
        for split in ('train', 'val'):
            for number, name in enumerate(('blue', 'green', 'red')):
                (folder / split / name).mkdir(parents=True)
                for index in range(4):
                    image = rng.integers(0, 80, (64, 64, 3), np.uint8)
                    image[..., number] += 120
                    cv2.imwrite(str(folder / split / name / f'{index}.png'), image)

    return tool_runs.made_once(tmp_path_factory.getbasetemp(), 'class_folders', make)


@pytest.fixture(scope='session')
def trained(tmp_path_factory, demo_data, class_folders):
    def call(task: str) -> tool_runs.Trained:
        data_root = class_folders if task == 'classification' else demo_data
        folder = tool_runs.made_once(
            tmp_path_factory.getbasetemp(),
            f'trained_{task}',
            lambda folder: tool_runs.train_once(task, folder, data_root),
        )
        return tool_runs.read_trained(folder, data_root)

    return call


@pytest.fixture
def run(tmp_path):
    def call(tool: str, *arguments: object) -> tool_runs.Result:
        return tool_runs.run_here(tool, *arguments, cwd=tmp_path)

    return call


@pytest.fixture
def data(demo_data, tmp_path):
    folder = tmp_path / 'data'
    shutil.copytree(demo_data, folder)

    def edit(split, change):
        path = folder / f'annotations/instances_{split}2017.json'
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return SimpleNamespace(folder=folder, edit=edit)


@pytest.fixture
def tiny_config(demo_data, class_folders, tmp_path):
    def write(task: str, data_root: Path | None = None, **changes: dict) -> Path:
        data_root = data_root or (class_folders if task == 'classification' else demo_data)
        path = tmp_path / f'tiny_{len(list(tmp_path.glob("tiny_*.py")))}.py'
        return tool_runs.write_config(task, path, data_root, **changes)

    return write


class _Files(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):  # noqa: N802
        if self.path != '/drip':
            return super().do_GET()
        self.send_response(200)
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            for _ in range(40):
                self.wfile.write(b'.')
                time.sleep(0.05)
        return None


@pytest.fixture
def serve(monkeypatch):
    monkeypatch.setenv('no_proxy', '*')
    with contextlib.ExitStack() as stack:

        def start(folder):
            handler = partial(_Files, directory=str(folder))
            server = stack.enter_context(ThreadingHTTPServer(('127.0.0.1', 0), handler))
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
            stack.callback(server.shutdown)
            return f'http://127.0.0.1:{server.server_port}'

        yield start


@pytest.fixture
def write_cifar10(monkeypatch):
    """A function that writes random images as CIFAR-10's files below a folder.

    It takes the folder and the number of images in each of the six batches, and returns by split
    (``'train'``, ``'test'``) the images, ``(N, 32, 32, 3)`` of uint8 in RGB, and the labels,
    ``(N,)``. In this process torchvision holds the files against their own digests from then on.
    """
    from torchvision.datasets import CIFAR10

    def write(root: Path, per_batch: int = 2) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        rng = np.random.default_rng(0)
        folder = Path(root, 'cifar-10-batches-py')
        folder.mkdir(parents=True)

        def dump(name: str, content: dict) -> str:
            data = pickle.dumps(content, protocol=2)
            (folder / name).write_bytes(data)
            return hashlib.md5(data).hexdigest()

        written, digests = {}, {}
        for split, names in (
            ('train', [f'data_batch_{number}' for number in range(1, 6)]),
            ('test', ['test_batch']),
        ):
            count = per_batch * len(names)
            images = rng.integers(256, size=(count, 32, 32, 3), dtype=np.uint8)
            labels = rng.integers(10, size=count)
            written[split], digests[split] = (images, labels), []
            # Each row of the file is an image: all of red, of green, of blue.
            rows = images.transpose(0, 3, 1, 2).reshape(count, -1)
            for i, name in enumerate(names):
                part = slice(i * per_batch, (i + 1) * per_batch)
                content = dict(batch_label=name, data=rows[part], labels=labels[part].tolist())
                digests[split].append([name, dump(name, content)])
        digest = dump('batches.meta', dict(label_names=list(CIFAR10_NAMES), num_vis=3072))
        monkeypatch.setattr(CIFAR10, 'train_list', digests['train'])
        monkeypatch.setattr(CIFAR10, 'test_list', digests['test'])
        monkeypatch.setattr(CIFAR10, 'meta', CIFAR10.meta | dict(md5=digest))
        return written

    return write
