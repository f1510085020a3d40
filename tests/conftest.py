import hashlib
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from mmengine.registry import DefaultScope
from process_start import start  # noqa: F401  (a fixture)

import tresnet_det  # noqa: F401  (prepares the stack before a test imports MMDetection)

# As the package sets it; OpenCV reads it once a process, and some test opens a video by itself.
os.environ.setdefault('OPENCV_FFMPEG_LOGLEVEL', '-8')

# Random inputs: the same few in every run, or many new ones by --hypothesis-profile=bulk.
_ANY_PACE = dict(deadline=None, database=None, suppress_health_check=list(HealthCheck))
settings.register_profile('fast', derandomize=True, max_examples=50, **_ANY_PACE)
settings.register_profile('bulk', max_examples=500, **_ANY_PACE)
settings.load_profile('fast')

ROOT = Path(__file__).resolve().parents[1]

# One block a stage, a quarter of the width: the mechanics, at a price that a test can pay.
TINY_ARCH = dict(depths=(1, 1, 1, 1), width_factor=0.25)

CIFAR10_NAMES = (
    'airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck',
)  # fmt: skip


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _default_scope():
    """Begin and end without the default scope that a runner leaves to the whole process."""
    DefaultScope._instance_dict.clear()
    yield
    DefaultScope._instance_dict.clear()


@pytest.fixture(scope='session')
def project_root() -> Path:
    return ROOT


@pytest.fixture(scope='session')
def real_data() -> Path:
    """The folder of real photographs; the test is skipped, saying so, where it is absent."""
    folder = Path(os.environ.get('TRESNET_DET_DATA', ROOT.parent / 'shared' / 'data'))
    if not folder.is_dir():
        pytest.skip(f'no real data at {folder}: set TRESNET_DET_DATA')
    return folder


@pytest.fixture
def tiny_arch() -> dict:
    return dict(TINY_ARCH)


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
