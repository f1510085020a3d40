"""The file of a step that was not finite, and running it again."""

import json

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmengine.config import Config
from mmengine.structures import InstanceData, PixelData
from torch import nn

import tresnet_det
from tresnet_det.engine.non_finite.plain_batch import (
    find_files,
    find_non_finite,
    from_plain,
    to_plain,
)
from tresnet_det.engine.non_finite.replay import replay, run_again
from tresnet_det.engine.resume_state import random_states, set_random_states
from tresnet_det.errors import InputError
from tresnet_det.models import ClsDataSample

NAN = float('nan')
STOP = [{'type': 'StopOnNonFiniteHook'}]


def detection_sample(i, masks):
    boxes = torch.tensor([[1.0, 2.0, 30.0, 40.0]]) + i
    sample = DetDataSample(metainfo=dict(img_path=f'{i}.jpg', img_shape=(64, 48), flip=False))
    sample.gt_instances = InstanceData(
        bboxes=HorizontalBoxes(boxes), labels=torch.tensor([i]), masks=masks
    )
    sample.gt_sem_seg = PixelData(sem_seg=torch.full((1, 4, 4), i))
    return sample


def through_a_file(value, tmp_path):
    torch.save(to_plain(value), tmp_path / 'plain.pth')
    return from_plain(torch.load(tmp_path / 'plain.pth', weights_only=True))


def test_detection_samples_come_back_from_a_file_that_holds_plain_values(tmp_path):
    bitmap = BitmapMasks(np.eye(4, dtype=np.uint8)[None], 4, 4)
    polygon = PolygonMasks([[np.array([1.0, 1, 3, 1, 3, 3])]], 4, 4)
    samples = [detection_sample(0, bitmap), detection_sample(1, polygon)]
    inputs = torch.rand(2, 3, 8, 8)
    found = through_a_file(dict(inputs=inputs, data_samples=samples), tmp_path)
    assert torch.equal(found['inputs'], inputs)
    for old, new in zip(samples, found['data_samples'], strict=True):
        assert type(new) is DetDataSample
        assert new.metainfo == old.metainfo
        assert type(new.gt_instances.bboxes) is HorizontalBoxes
        assert torch.equal(new.gt_instances.bboxes.tensor, old.gt_instances.bboxes.tensor)
        assert torch.equal(new.gt_instances.labels, old.gt_instances.labels)
        assert torch.equal(new.gt_sem_seg.sem_seg, old.gt_sem_seg.sem_seg)
        masks = new.gt_instances.masks
        assert type(masks) is type(old.gt_instances.masks)
        assert (masks.height, masks.width) == (4, 4)
        assert np.array_equal(masks.to_ndarray(), old.gt_instances.masks.to_ndarray())


def test_classification_samples_arrays_and_nests_come_back(tmp_path):
    sample = ClsDataSample(gt_label=[0, 1, -1], metainfo=dict(img_path='a.jpg'))
    arrays = [np.arange(3).astype(t) for t in ('uint8', 'uint16', 'int64', 'float32', 'bool')]
    batch = dict(sup=(sample, 1, 2.5, None, 'text', True), arrays=arrays, scalar=np.float32(0.5))
    found = through_a_file(batch, tmp_path)
    assert torch.equal(found['sup'][0].gt_label, torch.tensor([0, 1, -1]))
    assert found['sup'][0].img_path == 'a.jpg'
    assert found['sup'][1:] == batch['sup'][1:]
    assert found['scalar'] == 0.5
    for old, new in zip(arrays, found['arrays'], strict=True):
        assert old.dtype == new.dtype
        assert np.array_equal(old, new)


def test_what_cannot_be_kept_is_named_when_it_is_asked_for():
    plain = to_plain(dict(inputs=[torch.ones(1)], data_samples=[object()]))
    with pytest.raises(InputError, match='the batch held a builtins.object, which is not kept'):
        from_plain(plain)
    plain = to_plain([DetDataSample()])
    plain[0]['type'] = 'os.system'
    with pytest.raises(InputError, match=r'os\.system, which is not imported'):
        from_plain(plain)


def test_a_part_of_a_tensor_is_kept_without_the_rest(tmp_path):
    torch.save(to_plain(torch.zeros(100, 1000)[3:4]), tmp_path / 'part.pth')
    assert (tmp_path / 'part.pth').stat().st_size < 10_000


def test_numbers_that_are_not_finite_are_found_by_image_and_place():
    samples = [
        detection_sample(i, BitmapMasks([np.eye(4, dtype=np.uint8)], 4, 4)) for i in range(3)
    ]
    samples[1].gt_instances.bboxes.tensor[0, 2] = NAN
    samples[2].set_metainfo(dict(scale_factor=(1.0, float('inf'))))
    inputs = torch.zeros(3, 3, 4, 4)
    inputs[2, 0, 1, 1] = float('-inf')
    found = find_non_finite(to_plain(dict(inputs=inputs, data_samples=samples)))
    assert found == [
        (2, 'inputs'),
        (1, 'data_samples.gt_instances.bboxes'),
        (2, 'data_samples.scale_factor'),
    ]
    assert find_non_finite(to_plain((torch.ones(2), [NAN]))) == [(None, 'batch')]
    assert find_non_finite(to_plain(dict(a=torch.tensor(NAN), b=None, c=object()))) == [(None, 'a')]


def test_files_are_found_in_batches_of_any_form():
    a, b = (ClsDataSample(metainfo=dict(img_path=f'{name}.jpg')) for name in 'ab')
    assert find_files(dict(inputs=torch.ones(2), data_samples=[a, b])) == ['a.jpg', 'b.jpg']
    assert find_files(dict(data_samples=dict(sup=[a], unsup=[b]))) == ['a.jpg', 'b.jpg']
    assert find_files([dict(img_path='a.jpg', img=0), (torch.ones(1), b)]) == ['a.jpg', 'b.jpg']
    for nothing in (None, 3, 'text', torch.ones(1), [], dict(data_samples=[ClsDataSample()])):
        assert find_files(nothing) == []


def test_random_states_come_back_from_a_file(tmp_path):
    def draw():
        import random

        return random.random(), np.random.rand(), torch.rand(1)

    torch.save(random_states(nn.Linear(1, 1)), tmp_path / 'states.pth')
    first = draw()
    assert draw() != first
    set_random_states(torch.load(tmp_path / 'states.pth', weights_only=True))
    assert draw() == first


class Net(tresnet_det.ImageClassifier):
    """Three images' mean colours; a layer that is infinite where its input is above 2."""

    class Trap(nn.Module):
        def forward(self, x):
            return torch.where(x > 2, 1 / (0 * x), x)

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.norm = nn.BatchNorm1d(3)
        self.trap = Net.Trap()
        self.linear = nn.Linear(3, 3)

    def forward(self, inputs, data_samples=None, mode='loss'):
        x = self.linear(self.trap(inputs.mean((2, 3))) + 0 * self.norm(inputs.mean((2, 3))))
        x = nn.functional.dropout(x, 0.5)
        labels = torch.stack([s.gt_label for s in data_samples])
        return dict(loss_cls=nn.functional.cross_entropy(x, labels))


def batch_of(colours):
    samples = [
        ClsDataSample(gt_label=0, metainfo=dict(img_path=f'{i}.jpg')) for i in range(len(colours))
    ]
    inputs = torch.stack([torch.full((3, 2, 2), c) for c in colours])
    return dict(inputs=inputs, data_samples=samples)


def make_net():
    return Net(backbone=nn.Identity(), head=nn.Identity()).train()


def test_running_again_names_the_first_module_and_changes_nothing():
    model = make_net()
    states = random_states(model)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    torch.manual_seed(9)
    expected = torch.rand(1)
    torch.manual_seed(9)
    found = run_again(model, batch_of([1.0, 3.0]), states)
    assert torch.equal(torch.rand(1), expected)
    assert found.module == 'trap (Trap)'
    assert not found.module_input
    assert found.parameter.startswith('linear.')
    assert not found.finite
    again = run_again(model, batch_of([1.0, 2.0]), states)
    assert again.finite
    assert again == run_again(model, batch_of([1.0, 2.0]), states)  # dropout draws the same
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert not any(m._forward_hooks for m in model.modules())


def test_an_input_that_is_not_finite_is_told_from_a_module_that_makes_it_so():
    model = make_net()
    found = run_again(model, batch_of([1.0, NAN]), random_states(model))
    assert found.module == 'trap (Trap)'
    assert found.module_input
    assert 'whose input is not finite either' in '\n'.join(found.lines())


def test_what_is_compiled_is_looked_into():
    model = make_net()
    model.linear.compile(backend='eager')
    run_again(model, batch_of([1.0, 2.0]), random_states(model))
    with torch.no_grad():
        model.linear.weight.fill_(NAN)
    found = run_again(model, batch_of([1.0, 2.0]), random_states(model))
    assert found.module == 'linear (Linear)'


CONFIG = """
custom_imports = dict(imports=['tresnet_det', 'tresnet_det.engine'])
default_scope = 'mmdet'
model = dict(
    type='ImageClassifier',
    backbone=dict(type='TResNet', arch=dict(depths=(1, 1, 1, 1), width_factor=0.25)),
    head=dict(type='LinearClsHead', in_channels=512, num_classes=3,
        loss=dict(type='SoftmaxCrossEntropyLoss')),
)
"""


@pytest.fixture
def stopped(build, tmp_path):
    """A classifier's training that stopped at its second batch; the error's message."""

    def train(bad=NAN):
        model = MODELS.build(Config.fromstring(CONFIG, '.py').model)
        items = []
        for i in range(8):
            sample = ClsDataSample(gt_label=i % 3, metainfo=dict(img_path=f'{i}.jpg'))
            image = 255 * torch.rand(3, 64, 64)
            if i == 3:
                image[0, 5, 5] = bad
            items.append(dict(inputs=image, data_samples=sample))
        loader = dict(
            batch_size=2,
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='pseudo_collate'),
            dataset=items,
        )
        runner = build(STOP, model, val=False, train_dataloader=loader)
        with pytest.raises(InputError) as caught:
            runner.train()
        (dumped,) = (tmp_path / 'work').glob('*.py')  # the runner was not built from a file
        dumped.write_text(CONFIG)
        return str(caught.value), runner

    return train


def test_a_stopped_training_is_run_again_from_its_file(stopped, tmp_path):
    message, runner = stopped()
    path = tmp_path / 'work' / 'non_finite' / 'iter_2.pth'
    assert f'python tools/replay.py {path} runs it again' in message
    assert 'not finite before the model saw it: inputs of 3.jpg' in message
    step = torch.load(path, weights_only=True)
    assert step['iteration'] == 2
    assert step['files'] == ['2.jpg', '3.jpg']
    assert all(torch.equal(v, step['state_dict'][k]) for k, v in runner.model.state_dict().items())
    assert step['batch']['inputs'].shape == (2, 3, 64, 64)
    assert json.dumps(step['losses']) == '{"loss": NaN}'
    assert [p.name for p in path.parent.iterdir()] == [path.name]  # nothing half-written
    again = replay(path)
    assert again.whole.module == 'backbone.space_to_depth (SpaceToDepth)'
    verdicts = {name: findings.finite for name, findings in again.alone}
    assert verdicts == {'2.jpg': True, '3.jpg': False}
    text = '\n'.join(again.lines())
    assert 'inputs of 3.jpg' in text
    assert '  3.jpg: loss nan' in text


def test_a_replay_gives_the_losses_of_the_training_to_the_last_bit(stopped, tmp_path):
    stopped(bad=float('inf'))
    path = tmp_path / 'work' / 'non_finite' / 'iter_2.pth'
    step = torch.load(path, weights_only=True)
    step['batch']['inputs'][1, 0, 5, 5] = 0.5
    torch.save(step, path)
    again = replay(path)
    assert again.whole.finite
    assert 'all of it is finite this time' in '\n'.join(again.lines())
    model = MODELS.build(Config.fromstring(CONFIG, '.py').model).train()
    model.load_state_dict(step['state_dict'])
    batch = from_plain(step['batch'])
    expected = model.loss(batch['inputs'], batch['data_samples'])['loss']
    assert again.whole.losses['loss'] == expected.item()


def test_files_that_are_no_such_files_get_one_line(stopped, tmp_path):
    torch.save({'state_dict': {}}, tmp_path / 'epoch_1.pth')
    with pytest.raises(InputError, match='is no file of StopOnNonFiniteHook'):
        replay(tmp_path / 'epoch_1.pth')
    stopped()
    path = tmp_path / 'work' / 'non_finite' / 'iter_2.pth'
    (tmp_path / 'work' / 'other.py').write_text(CONFIG.replace('num_classes=3', 'num_classes=4'))
    with pytest.raises(InputError, match='holds 2 configs: name the one'):
        replay(path)
    with pytest.raises(InputError, match=r'does not fit the model of .*other\.py: size mismatch'):
        replay(path, tmp_path / 'work' / 'other.py')
