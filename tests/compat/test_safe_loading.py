"""No way to load weights runs what a file carries: each is tried with a file that would.

Our own tools are tried in ``tests/tools/test_safe_loading_tools.py``.
"""

import os
import pickle

import numpy as np
import pytest
import torch
from mmdet.apis import DetInferencer, init_detector
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner.checkpoint import CheckpointLoader

import tresnet_det.engine  # noqa: F401  (registers what the configs name)
from tresnet_det import MLDecoderHead, TResNet
from tresnet_det.checkpoints import read_checkpoint
from tresnet_det.datasets import TorchvisionDataset
from tresnet_det.errors import InputError, MissingFileError

PIPELINE = [dict(type='LoadImage'), dict(type='PackDetInputs')]


class MakesFolder:
    """Unpickled by the letter, it makes a folder."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def detector(arch):
    """A config of FCOS in miniature."""
    test = dict(type='CocoDataset', ann_file='', data_prefix=dict(img=''), pipeline=PIPELINE)
    return Config(
        dict(
            default_scope='mmdet',
            model=dict(
                type='FCOS',
                data_preprocessor=dict(type='DetDataPreprocessor', mean=[0] * 3, std=[255] * 3),
                backbone=dict(type='TResNet', arch=arch, out_indices=(3,)),
                neck=dict(type='FPN', in_channels=[512], out_channels=32, num_outs=1),
                bbox_head=dict(type='FCOSHead', num_classes=2, in_channels=32, feat_channels=32,
                               stacked_convs=1, strides=[32]),
            ),
            test_dataloader=dict(dataset=test),
            visualizer=dict(type='DetLocalVisualizer', name='visualizer'),
        )
    )  # fmt: skip


def initialise(evil, tmp_path, arch):
    init = dict(type='Pretrained', checkpoint=evil)
    TResNet(arch, init_cfg=init).init_weights()


def build_with_mmdetection(evil, tmp_path, arch):
    init_detector(detector(arch), evil, device='cpu')


def infer_with_mmdetection(evil, tmp_path, arch):
    DetInferencer(detector(arch), evil, device='cpu')


def infer_without_a_config(evil, tmp_path, arch):
    DetInferencer(weights=evil, device='cpu')


def start_of_a_stock_backbone(evil, tmp_path, arch):
    init_default_scope('mmdet')
    init = dict(type='Pretrained', checkpoint=evil)
    MODELS.build(dict(type='ResNet', depth=18, init_cfg=init)).init_weights()


def word_vectors(evil, tmp_path, arch):
    MLDecoderHead(in_channels=8, num_classes=3, embed_dims=8, query_embeddings=evil)


ENTRIES = {
    function.__name__: function
    for function in (
        initialise, build_with_mmdetection, infer_with_mmdetection, infer_without_a_config,
        start_of_a_stock_backbone, word_vectors,
    )
}  # fmt: skip
ENTRIES |= {
    'read_checkpoint': lambda evil, tmp_path, arch: read_checkpoint(evil),
    'checkpoint_loader': lambda evil, tmp_path, arch: CheckpointLoader.load_checkpoint(evil),
}


def refusal(entry, content, tmp_path, arch):
    """The line with which an entry refuses a file of this content."""
    path = tmp_path / 'evil.pth'
    torch.save(content, path)
    with pytest.raises(InputError) as caught:
        ENTRIES[entry](str(path), tmp_path, arch)
    message = str(caught.value)
    assert 'evil.pth' in message
    assert '\n' not in message
    return message


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('entry', ENTRIES)
def test_no_entry_runs_what_a_file_carries(entry, tmp_path, tiny_arch, monkeypatch):
    made = tmp_path / 'made'
    content = dict(state_dict=MakesFolder(made), meta=dict(epoch=1, iter=1))
    # Users set this for stacks that know no better; it must not reach us.
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    refusal(entry, content, tmp_path, tiny_arch)
    assert not made.exists()
    torch.load(tmp_path / 'evil.pth', weights_only=False)
    assert made.is_dir()  # the file does what it says


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('entry', sorted(set(ENTRIES) - {'infer_without_a_config', 'word_vectors'}))
def test_every_entry_names_the_file_and_the_weight_that_is_not_finite(entry, tmp_path, tiny_arch):
    content = dict(state_dict={'neck.w': torch.tensor(float('nan'))}, meta=dict(epoch=1, iter=1))
    assert "'neck.w' is not finite" in refusal(entry, content, tmp_path, tiny_arch)


@pytest.mark.parametrize('where', ['meta', 'message_hub'])
@pytest.mark.parametrize('how', ['import', 'type'])
def test_an_inferencer_does_not_run_the_config_in_weights(where, how, tmp_path):
    made = str(tmp_path / 'made')
    text = {
        'import': f'import os\nos.mkdir({made!r})\nmodel = dict()\n',
        # Data alone, and yet a call: the registry imports a name with dots in it.
        'type': f"model = dict(type='os.mkdir', path={made!r})\n",
    }[how]
    carried = dict(meta=dict(cfg=text)) if where == 'meta' else dict(
        meta={}, message_hub=dict(runtime_info=dict(cfg=text))
    )  # fmt: skip
    path = tmp_path / 'evil.pth'
    torch.save(dict(state_dict={}, **carried), path)
    with pytest.raises(InputError, match=r'evil\.pth: without a config, .* would be executed'):
        DetInferencer(weights=str(path), device='cpu')
    assert not (tmp_path / 'made').exists()


def test_an_array_of_objects_is_no_word_vectors(tmp_path):
    path = tmp_path / 'evil.npy'
    np.save(path, np.array([MakesFolder(tmp_path / 'made')], object), allow_pickle=True)
    with pytest.raises(InputError, match=r'evil\.npy: not a \.npy array'):
        word_vectors(str(path), tmp_path, None)
    assert not (tmp_path / 'made').exists()


def test_torchvisions_pickles_are_held_to_their_digests_or_not_read(tmp_path):
    folder = tmp_path / 'cifar-10-batches-py'
    folder.mkdir()
    for name in ('batches.meta', *(f'data_batch_{n}' for n in range(1, 6))):
        (folder / name).write_bytes(pickle.dumps(MakesFolder(tmp_path / 'made')))
    with pytest.raises(MissingFileError, match='CIFAR10 is not in .*, or not whole'):
        TorchvisionDataset('CIFAR10', str(tmp_path))
    with pytest.raises(InputError, match=r"torchvision's LSUN runs what a file _cache_"):
        TorchvisionDataset('LSUN', str(tmp_path), classes='val')
    assert not (tmp_path / 'made').exists()


def test_no_call_in_the_package_or_the_tools_loads_the_unsafe_way(project_root):
    sources = [p for part in ('tresnet_det', 'tools') for p in (project_root / part).rglob('*.py')]
    words = (
        'weights_only=False', 'allow_pickle=True', 'pickle.load', 'yaml.load(', 'unsafe_load',
        'Config.fromstring', ' eval(', ' exec(', 'shell=True', 'extractall(',
    )  # fmt: skip
    found = [(path.name, word) for path in sources for word in words if word in path.read_text()]
    assert found == []
    loads = [(p.name, line) for p in sources for line in p.read_text().splitlines()
             if 'torch.load(' in line and '``' not in line]  # fmt: skip
    assert loads
    assert all('weights_only=True' in line for _, line in loads)
