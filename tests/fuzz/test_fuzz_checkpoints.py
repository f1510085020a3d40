"""Any content of a checkpoint: every door loads all weights, or one line says what is wrong."""

import contextlib
import io
import os
import resource
import subprocess
import sys
from pathlib import Path

import fuzz_mutations as fuzz
import hypothesis
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

from tresnet_det import TResNet
from tresnet_det.checkpoints import formats, load_backbone_weights, load_weights, read_checkpoint
from tresnet_det.checkpoints.publish import convert, publish
from tresnet_det.engine.work_dir import find_checkpoint, resume_from

# The smallest that there are: a file of 100 kB.
ARCH = dict(depths=(1, 1, 1, 1), width_factor=1 / 32)
TENSORS = (
    lambda x: x * float('nan'),
    lambda x: x > 0,
    lambda x: x.long(),
    lambda x: x.half(),
    lambda x: x.to(torch.cfloat),
    lambda x: x.to('meta'),
    lambda x: x.to_sparse(),
    lambda x: x.flatten()[:1].expand(10**12),
    lambda x: x.flatten()[:1].expand(7, *x.shape),
    lambda x: x.flatten(),
    lambda x: x[..., None],
    lambda x: x.new_empty(0),
    lambda x: x.sum(),
    lambda x: -x.abs(),
    lambda x: nn.Parameter(x.float()),
    lambda x: x.tolist(),
)
ODD = (
    *fuzz.ODD,
    2**32,
    10**9,
    10**400,
    torch.ones(3),
    torch.tensor(5),
    (1, 2),
    (float('nan'),) * 2,
)


class Model(BaseModel):
    def __init__(self):
        super().__init__()
        self.backbone = TResNet(arch=ARCH, out_indices=(0,))

    def forward(self, inputs, data_samples=None, mode='loss'):
        return {'loss': self.backbone(torch.stack(inputs))[-1].square().mean()}


def make_runner(folder):
    return Runner(
        model=Model(),
        work_dir=str(folder),
        experiment_name=folder.name,
        train_dataloader=dict(
            batch_size=1,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=False),
            dataset=[dict(inputs=torch.rand(3, 64, 64))] * 2,
        ),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.01)),
        param_scheduler=[dict(type='MultiStepLR', milestones=[2])],
        default_hooks=dict(checkpoint=dict(type='SafeCheckpointHook', interval=1)),
        custom_hooks=[dict(type='CheckpointGuardHook'), dict(type='EMAHook')],
        default_scope='mmdet',
    )


@pytest.fixture(scope='module')
def training(tmp_path_factory):
    """A runner that has trained, and what its checkpoint holds."""
    runner = make_runner(tmp_path_factory.mktemp('training'))
    runner.train()
    runner._resume = True
    Path(runner.work_dir, 'last_checkpoint').write_bytes(b'\xff')  # where a file is named, unread
    file = Path(runner.work_dir, 'epoch_1.pth')
    saved = torch.load(file, weights_only=False)
    weights = {key: saved[key] for key in ('state_dict', 'ema_state_dict', 'meta')}
    whole_backbone = dict(state_dict=TResNet(arch=ARCH).state_dict(), meta=saved['meta'])
    trees = dict.fromkeys((resume, from_work_dir), saved)
    trees |= dict.fromkeys((converted, to_ours), whole_backbone)
    return runner, weights, trees


def copied(tree):
    """A copy in which the tensors are the same ones."""
    if isinstance(tree, dict):
        return {key: copied(value) for key, value in tree.items()}
    return [*map(copied, tree)] if isinstance(tree, list) else tree


def is_plain(value):
    plain = torch.is_tensor(value) and value.dtype == torch.float32 and not value.is_sparse
    return plain and value.device.type == 'cpu' and 0 < value.numel() < 10**6


def damaged(draw, content):
    """Draw what a checkpoint holds, with one to three faults at any depth."""
    tree = copied(content)
    for _ in range(draw(st.integers(1, 3))):
        node, holder, key = tree, None, None
        while isinstance(node, dict | list) and node:
            if holder is not None and not draw(st.integers(0, 4)):
                break
            keys = list(node) if isinstance(node, dict) else range(len(node))
            holder, key = node, draw(st.sampled_from(keys))
            node = holder[key]
        if holder is None:
            break
        action = draw(st.sampled_from(('odd', 'odd', 'drop', 'swap', 'key')))
        if is_plain(node) and action != 'drop':
            holder[key] = draw(st.sampled_from(TENSORS))(node.detach())
        elif action == 'drop':
            del holder[key]
        elif action == 'odd':
            holder[key] = copied(draw(st.sampled_from(ODD)))
        elif action == 'swap':
            holder[key] = copied(tree.get(draw(st.sampled_from(list(content)))))
        elif isinstance(holder, dict):
            holder[draw(st.sampled_from((0, 1.5, None, 'x', 'x' * 1000, (1,), 'step')))] = node
    return tree


def resume(content, file, runner):
    runner._load_from = str(file)
    runner.resume(str(file))
    assert runner.iter == content['meta']['iter']
    assert equal(runner.model.state_dict(), content.get('ema_state_dict', content['state_dict']))
    for parameter in runner.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    runner.optim_wrapper.optimizer.step()
    for scheduler in runner.param_schedulers:
        scheduler.step()


def from_work_dir(content, file):
    """As ``--resume`` and ``predict.py`` find a file in a work directory."""
    Path(file.parent, 'last_checkpoint').write_text(file.name)
    found = find_checkpoint(file.parent)
    assert resume_from(Config(dict(work_dir=str(file.parent))), found) == found


def whole(content, file):
    model = Model()
    load_weights(model, file)
    assert equal(model.state_dict(), read_checkpoint(file).weights)


def backbone(content, file):
    init_cfg = dict(type='Pretrained', checkpoint=str(file))
    model = TResNet(arch=ARCH, out_indices=(0,), init_cfg=init_cfg)
    model.init_weights()
    assert load_backbone_weights(model, file, strict=False).share >= 0.95


def converted(content, file, to='timm'):
    target = file.with_name('converted.pth')
    try:
        convert(file, target, to)
    finally:
        assert [*file.parent.iterdir()] == [file] or read_checkpoint(target).weights
    ours, theirs = (formats.to_ours(read_checkpoint(f).weights, 'it')[1] for f in (file, target))
    named = (
        {k.replace('abn.', 'bn.') for k in keys if 'num_b' not in k} for keys in (ours, theirs)
    )
    assert next(named) == next(named)


def to_ours(content, file):
    converted(content, file, 'ours')


def published(content, file, weights='averaged'):
    try:
        found = publish(file, weights=weights)
    except BaseException:
        assert [*file.parent.iterdir()] == [file]
        raise
    assert {*file.parent.iterdir()} == {file, found}
    read_checkpoint(found)


def raw_published(content, file):
    published(content, file, 'raw')


def equal(own, given):
    given = {key.removeprefix('module.'): value for key, value in given.items()}
    return all(torch.equal(x, given[key].to(x)) for key, x in own.items() if key in given)


DOORS = (resume, whole, backbone, converted, to_ours, published, raw_published, from_work_dir)


def check(training, examples, seed):
    runner, weights, trees = training
    print(f'seed {seed}')

    @hypothesis.seed(seed)
    @settings(max_examples=examples, derandomize=False)
    @given(st.data(), st.sampled_from(DOORS))
    def every_door_is_sound(data, door):
        broken = damaged(data.draw, trees.get(door, weights))
        with fuzz.folder() as root:
            file = root / 'epoch_1.pth'
            torch.save(broken, file)
            fuzz.attempt(lambda: door(broken, file, *[runner] * (door is resume)), file)

    with contextlib.redirect_stdout(io.StringIO()):
        every_door_is_sound()


def test_fuzz_checkpoints(training):
    check(training, 50, 0)


@pytest.mark.slow
def test_fuzz_many_checkpoints(training):
    check(training, 2000, int(os.environ.get('FUZZ_SEED', 1)))  # another one looks further


@pytest.mark.slow
def test_fuzz_checkpoints_within_6_gb_of_addresses(project_root):
    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))

    names = [f'tests/fuzz/{name}.py' for name in ('test_fuzz_checkpoints', 'test_fuzz_labels')]
    command = [sys.executable, '-m', 'pytest', '-p', 'no:xdist', '-m', 'not slow', *names]
    result = subprocess.run(command, cwd=project_root, preexec_fn=limit, capture_output=True)
    assert result.returncode == 0, result.stdout[-3000:]
