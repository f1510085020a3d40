"""Pipelines of classification: torchvision's transforms by config, and Cutout."""

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


def test_a_seed_gives_torchvisions_rand_augment_on_pillow():
    image = photo(64, 64)
    torch.manual_seed(0)
    ours = build_transforms([dict(type='RandAugment')])(image)
    torch.manual_seed(0)
    assert torch.equal(ours, v2.PILToTensor()(v2.RandAugment()(to_pillow(image))))
