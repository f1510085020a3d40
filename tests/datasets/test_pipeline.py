"""Pipelines of classification: torchvision's transforms by config, Cutout and RandAugment."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from tresnet_det.datasets import build_transforms
from tresnet_det.datasets.decode import to_pillow
from tresnet_det.datasets.pipeline import (
    MULTI_LABEL_TEST_PIPELINE,
    MULTI_LABEL_TRAIN_PIPELINE,
    TEST_PIPELINE,
    TRAIN_PIPELINE,
    Cutout,
    OnPillow,
)
from tresnet_det.datasets.rand_augment import OPERATIONS, RandAugment, rotate
from tresnet_det.errors import InputError


def photo(height: int = 60, width: int = 80) -> torch.Tensor:
    """Smooth colours with some noise, (3, H, W), in the layout that decoders give."""
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (5, 6, 3), np.uint8))
    array = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    array = np.clip(array + rng.integers(-9, 10, array.shape), 0, 255).astype(np.uint8)
    return torch.from_numpy(array).permute(2, 0, 1)


@pytest.mark.parametrize(
    ('pipeline', 'size'),
    [
        (TRAIN_PIPELINE, 224),
        (TEST_PIPELINE, 224),
        (MULTI_LABEL_TRAIN_PIPELINE, 448),
        (MULTI_LABEL_TEST_PIPELINE, 448),
    ],
)
def test_the_recipes_give_square_uint8_images_and_can_be_sent_to_workers(pipeline, size):
    transforms = pickle.loads(pickle.dumps(build_transforms(pipeline)))
    for shape in ((60, 80), (300, 700), (500, 240)):
        image = transforms(photo(*shape))
        assert image.shape == (3, size, size)
        assert image.dtype == torch.uint8


def test_squishing_is_pillows():
    image = photo(90, 120)
    ours = build_transforms([dict(type='Resize', size=[40, 40])])(image).permute(1, 2, 0).numpy()
    theirs = np.asarray(to_pillow(image).resize((40, 40), Image.Resampling.BILINEAR))
    assert np.abs(ours.astype(int) - theirs).max() <= 1


def test_names_of_torchvision_with_text_for_interpolation_and_nested_lists():
    transforms = build_transforms(
        [
            dict(type='Resize', size=(20, 30), interpolation='bicubic'),
            dict(type='RandomApply', transforms=[dict(type='ColorJitter', hue=0.1)], p=1.0),
            dict(type='RandomChoice', transforms=[dict(type='TrivialAugmentWide')]),
        ]
    ).transforms
    assert transforms[0].interpolation is v2.InterpolationMode.BICUBIC
    assert isinstance(transforms[1].transforms[0], v2.ColorJitter)
    assert isinstance(transforms[2].transforms[0], OnPillow)


@pytest.mark.parametrize('name', ['AutoAugment', 'TrivialAugmentWide', 'RandAugment'])
def test_policies_take_and_give_tensors(name):
    image = photo()
    for _ in range(5):
        after = build_transforms([dict(type=name)])(image)
        assert (after.shape, after.dtype) == (image.shape, torch.uint8)


def test_an_empty_pipeline_changes_nothing():
    image = photo()
    assert build_transforms([])(image) is image


@pytest.mark.parametrize(
    ('entry', 'message'),
    [
        (dict(type='RandomResizeCrop', size=8), r"no 'RandomResizeCrop': .*RandomResizedCrop"),
        (dict(type='PackDetInputs'), 'is read already'),
        (dict(type='InterpolationMode'), "no 'InterpolationMode'"),
        (dict(size=8), r"write dict\(type='NAME', ...\)"),
        ('Resize', r"write dict\(type='NAME', ...\)"),
        (dict(type='Resize', sise=8), r"\(Resize\): .*'sise'; it takes size, interpolation"),
        (dict(type='Resize', size=8, interpolation='cubic'), r"'cubic'; it must be .*'bicubic'"),
        (dict(type='Cutout', ratio=0), r'Cutout.*\(0, 1\], got 0'),
        (dict(type='RandAugment', magnitude=31), 'magnitude.*from 0 to 30, got 31'),
        (dict(type='RandomApply', transforms=[dict(type='X')]), r"transforms\[0\]: .* no 'X'"),
    ],
)
def test_a_wrong_entry_is_named_in_one_line(entry, message):
    with pytest.raises(InputError, match=rf'pipeline\[1\].*{message}') as caught:
        build_transforms([dict(type='RandomHorizontalFlip'), entry])
    assert '\n' not in str(caught.value)


def test_a_pipeline_that_is_no_list_is_refused():
    with pytest.raises(InputError, match='pipeline is .*write a list of dicts'):
        build_transforms(dict(type='Resize', size=8))


def test_cutout_fills_one_rectangle_with_one_colour():
    image = photo(40, 60)
    before = image.clone()
    areas = []
    for _ in range(300):
        after = Cutout(0.5)(image)
        changed = (after != image).any(0)  # but where the colour was there already
        rows, columns = changed.any(1).nonzero()[:, 0], changed.any(0).nonzero()[:, 0]
        box = after[:, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert (box == box[:, :1, :1]).all()
        assert box.shape[1] <= 20
        assert box.shape[2] <= 30
        areas.append(box[0].numel() / image[0].numel())
    assert torch.equal(image, before)
    # The centre is uniform and the border cuts: 7/16 of each side is left on average.
    assert np.mean(areas) == pytest.approx((7 / 16) ** 2, abs=0.02)


def test_cutout_has_the_place_and_colour_of_its_draws(monkeypatch):
    draws = iter([torch.tensor(10), torch.tensor(3), torch.tensor([[[1]], [[2]], [[3]]])])
    monkeypatch.setattr(torch, 'randint', lambda *args, **kwargs: next(draws))
    image = photo(40, 60)
    want = image.clone()
    want[:, 0:20, 0:18] = torch.tensor([[[1]], [[2]], [[3]]])  # rows 10 +- 10, columns 3 +- 15
    assert torch.equal(Cutout(0.5)(image), want)


NAMES = list(v2.RandAugment._AUGMENTATION_SPACE)


def by_pillow(name: str, image: torch.Tensor, step: int, sign: int) -> np.ndarray:
    """Torchvision's operation on Pillow's image, at the given one of 31 strengths."""
    policy = v2.RandAugment()
    strengths = policy._AUGMENTATION_SPACE[name][0](31, *image.shape[1:])
    strength = 0.0 if strengths is None else sign * float(strengths[step])
    done = policy._apply_image_or_video_transform(
        to_pillow(image), name, strength, interpolation=policy.interpolation, fill=policy._fill
    )
    return np.asarray(done).astype(int)


@pytest.mark.parametrize(('number', 'name'), list(enumerate(NAMES)))
@pytest.mark.parametrize('step', [0, 9, 30])
def test_each_operation_is_pillows(number, name, step):
    operation, signed = OPERATIONS[number]
    assert operation.__name__.replace('_', '') == name.lower()
    assert signed == v2.RandAugment._AUGMENTATION_SPACE[name][1]
    image = photo(61, 80)
    for sign in (1, -1) if signed else (1,):
        ours = operation(image.permute(1, 2, 0).contiguous().numpy(), sign * step / 30)
        difference = np.abs(ours.astype(int) - by_pillow(name, image, step, sign))
        # A rotation puts some places half-way between two pixels, where either is the nearest.
        bad = (difference > 2).mean()
        assert bad < (0.003 if name == 'Rotate' else 1e-12)
        if name in ('ShearX', 'TranslateX', 'Posterize', 'Solarize', 'Equalize', 'Brightness'):
            assert not difference.any()


def test_equalize_and_autocontrast_of_one_colour_change_nothing():
    flat = np.full((5, 6, 3), 77, np.uint8)
    for operation, _ in OPERATIONS[-2:]:
        assert np.array_equal(operation(flat, 0.3), flat)


def test_a_quarter_turn_is_counter_clockwise():
    image = photo(24, 24).permute(1, 2, 0).contiguous().numpy()
    assert np.array_equal(rotate(image, 3.0), np.rot90(image))  # 90 degrees


def test_a_seed_gives_torchvisions_image():
    image, same = photo(64, 64), 0
    for seed in range(40):
        torch.manual_seed(seed)
        ours = RandAugment()(image).permute(1, 2, 0).numpy().astype(int)
        torch.manual_seed(seed)
        theirs = np.asarray(v2.RandAugment()(to_pillow(image))).astype(int)
        same += (np.abs(ours - theirs) > 2).mean() < 0.01
    # An equalisation after a rounded blend may set levels further apart.
    assert same >= 38


def test_rand_augment_leaves_its_input_alone_and_takes_any_layout():
    image = photo()
    before = image.clone()
    for seed in range(30):
        torch.manual_seed(seed)
        first = RandAugment(num_ops=3, magnitude=30)(image)
        torch.manual_seed(seed)
        assert torch.equal(RandAugment(num_ops=3, magnitude=30)(image.contiguous()), first)
    assert torch.equal(image, before)
    assert torch.equal(RandAugment(num_ops=0)(image), image)
