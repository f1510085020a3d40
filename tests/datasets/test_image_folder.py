"""`ImageFolderDataset`: class folders and lists of labels, and each mistake in them."""

import os
import pickle
from pathlib import Path

import pytest
import torch
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from PIL import Image
from torchvision.datasets import ImageFolder

import tresnet_det.evaluation  # noqa: F401  (registers)
from tresnet_det.datasets import ImageFolderDataset
from tresnet_det.errors import InputError, MissingFileError

SQUISH = [dict(type='Resize', size=(32, 32))]


def paint(path: Path, level: int = 0, size: tuple[int, int] = (9, 7)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', size, (level, level, 255 - level)).save(path)


@pytest.fixture
def folders(tmp_path) -> Path:
    """Two cats, three dogs; and what is no class."""
    for number, name in enumerate(
        ['cat/a.png', 'cat/deep/b.PNG', 'dog/a.png', 'dog/c.jpg', 'dog/d.bmp', '.cache/x.png']
    ):
        paint(tmp_path / name, number)
    (tmp_path / 'cat/notes.txt').write_text('no image')
    return tmp_path


@pytest.fixture
def flat(tmp_path) -> Path:
    """Three images in a folder and a list of labels to be written."""
    for name in ('a.png', 'b.png', 'two words.png'):
        paint(tmp_path / 'val' / name)
    return tmp_path


def from_list(root: Path, text: str, classes=('cat', 'dog'), encoding='utf-8'):
    (root / 'val.txt').write_text(text, encoding=encoding)
    metainfo = None if classes is None else dict(classes=classes)
    return ImageFolderDataset(
        str(root), 'val.txt', dict(img='val'), metainfo=metainfo, test_mode=True
    )


def listed(dataset) -> list[tuple[str, int]]:
    return [
        (os.path.relpath(dataset.img_path(i), dataset.folder), int(dataset.gt_labels[i]))
        for i in range(len(dataset))
    ]


def test_class_folders_are_read_as_torchvision_does(folders):
    (folders / '.cache/x.png').unlink()
    (folders / '.cache').rmdir()
    ours, theirs = ImageFolderDataset(str(folders)), ImageFolder(folders)
    assert [(ours.img_path(i), int(ours.gt_labels[i])) for i in range(5)] == theirs.samples
    assert ours.metainfo == dict(classes=tuple(theirs.classes))


def test_classes_are_restricted_and_ordered_by_metainfo(folders):
    paint(folders / 'ant/a.png')
    dataset = ImageFolderDataset(str(folders), metainfo=dict(classes=('dog', 'cat')))
    assert sorted(listed(dataset)) == [
        ('cat/a.png', 1), ('cat/deep/b.PNG', 1), ('dog/a.png', 0), ('dog/c.jpg', 0),
        ('dog/d.bmp', 0),
    ]  # fmt: skip
    names = folders / 'classes.txt'
    names.write_text('dog\n\ncat \n')
    assert ImageFolderDataset(str(folders), metainfo=dict(classes=str(names))).metainfo == dict(
        classes=('dog', 'cat')
    )


def test_a_sample_is_what_the_runner_takes(folders):
    paint(folders / 'cat/a.png', 200, size=(40, 30))
    dataset = ImageFolderDataset(str(folders), pipeline=SQUISH)
    item = dataset[0]
    assert item['inputs'].shape == (3, 32, 32)
    assert item['inputs'].dtype == torch.uint8
    assert item['inputs'].is_contiguous()
    assert item['inputs'][:, 5, 5].tolist() == [200, 200, 55]  # RGB
    sample = item['data_samples']
    assert sample.gt_label.dtype == torch.int64
    assert sample.gt_label.shape == ()
    assert int(sample.gt_label) == 0
    assert sample.img_path == str(folders / 'cat/a.png')
    assert (sample.ori_shape, sample.img_shape) == ((30, 40), (32, 32))


def test_without_a_pipeline_it_trains_or_tests_at_224(folders):
    for test_mode, name in ((False, 'RandomResizedCrop'), (True, 'CenterCrop')):
        dataset = ImageFolderDataset(str(folders), test_mode=test_mode)
        assert name in repr(dataset._transforms)
        assert dataset[0]['inputs'].shape == (3, 224, 224)


def test_names_that_are_no_text_survive(folders):
    odd = os.fsdecode(os.fsencode(str(folders)) + b'/cat/z\xff\xc3\xa9.png')
    os.rename(folders / 'cat/a.png', odd)
    dataset = pickle.loads(pickle.dumps(ImageFolderDataset(str(folders), pipeline=SQUISH)))
    assert dataset.img_path(0) == odd
    assert dataset[0]['inputs'].shape == (3, 32, 32)


@pytest.mark.parametrize(
    ('pipeline', 'got'),
    [([dict(type='ToDtype', dtype=torch.float32)], 'torch.float32'),
     ([dict(type='ToPILImage')], 'Image')],
)  # fmt: skip
def test_a_pipeline_must_end_with_uint8(folders, pipeline, got):
    with pytest.raises(InputError, match=f'gives {got} and not a uint8 tensor'):
        ImageFolderDataset(str(folders), pipeline=pipeline)[0]


def test_a_list_of_labels_names_classes_or_numbers(flat):
    lines = 'a.png {}\n\nb.png {}\ntwo words.png\t{}\n'
    want = [('a.png', 1), ('b.png', 0), ('two words.png', 1)]
    assert listed(from_list(flat, lines.format('dog', 'cat', 'dog'))) == want
    assert listed(from_list(flat, lines.format(1, 0, 1), encoding='utf-8-sig')) == want
    # Without classes: the labels' names sorted, or one for each number up to the highest.
    dataset = from_list(flat, lines.format('n2', 'n1', 'n2'), None)
    assert (listed(dataset), dataset.metainfo['classes']) == (want, ('n1', 'n2'))
    dataset = from_list(flat, lines.format(3, 0, 1), None)
    assert dataset.metainfo['classes'] == ('0', '1', '2', '3')
    # Classes that are called by numbers are names.
    assert listed(from_list(flat, lines.format(2, 1, 2), ('1', '2'))) == want


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('a.png cat\nb.png\n', r'val\.txt:2: .b\.png. is not of the form "NAME LABEL"'),
        ('a.png cat\nb.png dgo\n', r"val\.txt:2: 'dgo' is no class; did you mean 'dog'\?"),
        ('a.png 0\nb.png 2\n', r"val\.txt:2: '2' is no class; numbers go from 0 to 1"),
        ('a.png 0\nb.png dog\n', r"val\.txt:1: '0' is no class"),
        ('a.png cat\n\na.png dog\n', r"val\.txt:3: 'a\.png' was in row 1 already"),
        ('a.png cat\nx.png dog\n', r'not in the folder: 1 of 2, first x\.png\. Complete'),
        ('q/x.png dog\n', r'1 of 1, first q/x\.png\. .* data_prefix\.img'),
        ('\n', r'val\.txt: the label list is empty'),
    ],
)  # fmt: skip
def test_a_broken_list_is_named_with_its_row(flat, text, message):
    with pytest.raises(InputError, match=message) as caught:
        from_list(flat, text)
    assert '\n' not in str(caught.value)


def test_a_list_that_is_no_text_is_named(flat):
    (flat / 'val.txt').write_bytes(b'a.png \xff\n')
    with pytest.raises(InputError, match='no text at byte 6: save it as UTF-8'):
        ImageFolderDataset(str(flat), 'val.txt', dict(img='val'))


@pytest.mark.parametrize(
    ('settings', 'error', 'message'),
    [
        (dict(data_prefix=dict(img='nowhere')), MissingFileError, 'nowhere not found'),
        (dict(data_prefix=dict(img_path='cat')), InputError, r"'img_path': write .*dict\(img="),
        (dict(data_prefix=dict(img='dog')), InputError, 'dog: no class folders in it'),
        (dict(ann_file='val.txt'), MissingFileError, r'annotation file .*val\.txt not found'),
        (dict(metainfo=dict(classes='cat')), MissingFileError, r"which is no file: .*\('cat',\)"),
        (dict(metainfo=dict(classes=('cats',))), InputError, r"'cats': did you mean 'cat'\?"),
        (dict(metainfo=dict(classes=('cat', 'cat'))), InputError, "'cat' more than once"),
        (dict(metainfo=dict(classes=(1, 2))), InputError, 'must be names, got'),
        (dict(metainfo=dict(classes=())), InputError, 'must be names, got'),
        (dict(pipeline=[dict(type='Rezise')]), InputError, "no 'Rezise': did you mean Resize"),
    ],
)
def test_settings_that_do_not_fit_are_named_in_one_line(folders, settings, error, message):
    with pytest.raises(error, match=message) as caught:
        ImageFolderDataset(str(folders), **settings)
    assert '\n' not in str(caught.value)


def test_a_class_folder_without_images_is_named(folders):
    (folders / 'eel').mkdir()
    with pytest.raises(InputError, match=r'class folders without an image: .*eel\. Fill'):
        ImageFolderDataset(str(folders))
    ImageFolderDataset(str(folders), metainfo=dict(classes=('cat', 'dog')))


def test_an_undecodable_image_is_named_when_it_is_read(folders):
    (folders / 'dog/c.jpg').write_bytes(b'GIF or so')
    dataset = ImageFolderDataset(str(folders), pipeline=SQUISH)
    with pytest.raises(InputError, match=r'dog/c\.jpg: not an image'):
        dataset[3]


def loader(dataset: dict, **settings) -> torch.utils.data.DataLoader:
    with DefaultScope.overwrite_default_scope('mmdet'):
        return Runner.build_dataloader(
            dict(
                batch_size=2,
                sampler=dict(type='DefaultSampler', shuffle=False),
                collate_fn=dict(type='stack_samples'),
                dataset=dataset,
                **settings,
            ),
            seed=0,
        )


@pytest.mark.parametrize('num_workers', [0, 1])
def test_runners_loader_stacks_batches(folders, num_workers):
    cfg = dict(type='ImageFolderDataset', data_root=str(folders), pipeline=SQUISH)
    batches = list(loader(cfg, num_workers=num_workers))
    assert [batch['inputs'].shape[0] for batch in batches] == [2, 2, 1]
    assert batches[0]['inputs'].shape == (2, 3, 32, 32)
    samples = [sample for batch in batches for sample in batch['data_samples']]
    assert [int(sample.gt_label) for sample in samples] == [0, 0, 1, 1, 1]
    assert samples[1].img_path == str(folders / 'cat/deep/b.PNG')
    samples[0].gt_label.fill_(7)
    assert int(samples[1].gt_label) == 0


def test_images_of_several_sizes_stay_a_list(folders):
    paint(folders / 'cat/a.png', size=(40, 30))
    cfg = dict(type='ImageFolderDataset', data_root=str(folders), pipeline=[])
    batch = next(iter(loader(cfg)))
    assert [tuple(image.shape) for image in batch['inputs']] == [(3, 30, 40), (3, 7, 9)]
