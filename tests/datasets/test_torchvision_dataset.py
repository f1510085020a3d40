"""`TorchvisionDataset`: torchvision's datasets by name, with their files, splits and mistakes."""

import hashlib
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat
from torchvision import datasets

from tresnet_det.datasets import ImageFolderDataset, TorchvisionDataset, torchvision_dataset
from tresnet_det.errors import InputError, MissingFileError

CIFAR10_NAMES = (
    'airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck',
)  # fmt: skip


def fake(**settings) -> TorchvisionDataset:
    """Torchvision's random images, which need no file."""
    settings = dict(size=3, image_size=(3, 8, 8), pipeline=[]) | settings
    return TorchvisionDataset('FakeData', **settings)


def save(path: Path, image: np.ndarray, **settings) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, **settings)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)


@pytest.fixture
def flowers(tmp_path, monkeypatch) -> Path:
    """Flowers102's files: 6 images with the labels 102, 3, 1, 1, 3, 2 (which count from 1)."""
    folder = tmp_path / 'flowers-102'
    for number in range(1, 7):
        save(folder / f'jpg/image_{number:05d}.jpg', noise(20, 30, 3), quality=60 + number)
    savemat(folder / 'imagelabels.mat', dict(labels=[[102, 3, 1, 1, 3, 2]]))
    savemat(folder / 'setid.mat', dict(trnid=[[5, 1]], valid=[[2, 3]], tstid=[[4, 6]]))
    digests = {
        key: (name, hashlib.md5((folder / name).read_bytes()).hexdigest())
        for key, name in (('label', 'imagelabels.mat'), ('setid', 'setid.mat'))
    }
    monkeypatch.setattr(datasets.Flowers102, '_file_dict', datasets.Flowers102._file_dict | digests)
    return tmp_path


@pytest.fixture
def pets(tmp_path) -> Path:
    """OxfordIIITPet's files: a cat and two dogs, of 3 breeds."""
    folder = tmp_path / 'oxford-iiit-pet'
    for name in ('Bengal_7', 'basset_hound_2', 'pug_1'):
        save(folder / f'images/{name}.jpg', noise(9, 7, 3))
    (folder / 'annotations').mkdir()
    (folder / 'annotations/trainval.txt').write_text(
        'Bengal_7 1 1 1\nbasset_hound_2 2 2 1\npug_1 3 2 2\n'
    )
    return tmp_path


@pytest.mark.parametrize('split', ['train', 'test'])
def test_cifar10_comes_as_it_is_in_its_files(tmp_path, write_cifar10, split):
    images, labels = write_cifar10(tmp_path)[split]
    dataset = TorchvisionDataset(
        'CIFAR10', str(tmp_path), pipeline=[], test_mode=split == 'test', train=split == 'train'
    )
    assert dataset.metainfo == dict(classes=CIFAR10_NAMES)
    assert len(dataset) == len(labels)
    assert dataset.gt_labels.dtype == np.int64
    assert dataset.gt_labels.tolist() == labels.tolist()
    for i, image in enumerate(images):
        item = dataset[i]
        assert torch.equal(item['inputs'], torch.from_numpy(image).permute(2, 0, 1))
        assert item['inputs'].is_contiguous()
        sample = item['data_samples']
        assert sample.gt_label.dtype == torch.int64
        assert (sample.gt_label.shape, int(sample.gt_label)) == ((), labels[i])
        assert sample.img_path == f'CIFAR10[{i}]'
        assert (sample.ori_shape, sample.img_shape) == ((32, 32), (32, 32))


def test_a_class_of_files_reads_them_as_our_own_dataset_does(tmp_path):
    save(tmp_path / 'cat/a.png', noise(12, 16, 3))
    save(tmp_path / 'cat/grey.png', noise(12, 16))
    save(tmp_path / 'dog/deep.png', noise(12, 16).astype(np.uint16) * 257)  # 16 bits
    turned = Image.Exif()
    turned[0x0112] = 6
    save(tmp_path / 'dog/turned.jpg', noise(12, 16, 3), exif=turned)
    ours = ImageFolderDataset(str(tmp_path), pipeline=[])
    theirs = TorchvisionDataset('ImageFolder', str(tmp_path), pipeline=[])
    assert theirs.metainfo == dict(classes=('cat', 'dog'))
    assert theirs.gt_labels.tolist() == [0, 0, 1, 1]
    assert len(ours) == len(theirs)
    for i in range(len(ours)):
        mine, other = ours[i], theirs[i]
        assert torch.equal(mine['inputs'], other['inputs'])
        assert torch.equal(mine['data_samples'].gt_label, other['data_samples'].gt_label)
        assert mine['data_samples'].metainfo == other['data_samples'].metainfo
    assert theirs[3]['data_samples'].ori_shape == (16, 12)


def test_flowers_are_read_by_split(flowers):
    dataset = TorchvisionDataset('Flowers102', str(flowers), pipeline=[], split='train')
    assert dataset.gt_labels.tolist() == [2, 101]
    assert len(dataset.metainfo['classes']) == 102
    path = flowers / 'flowers-102/jpg/image_00005.jpg'
    item = dataset[0]
    assert item['data_samples'].img_path == str(path)
    want = np.asarray(Image.open(path)).transpose(2, 0, 1)
    assert np.array_equal(item['inputs'].numpy(), want)
    other = TorchvisionDataset('Flowers102', str(flowers), pipeline=[], split='test')
    assert other.gt_labels.tolist() == [0, 1]


def test_classes_without_names_are_called_by_their_numbers(flowers, monkeypatch):
    monkeypatch.delattr(datasets.Flowers102, 'classes', raising=False)
    dataset = TorchvisionDataset('Flowers102', str(flowers), split='val')
    assert dataset.metainfo['classes'] == ('0', '1', '2')
    with pytest.raises(InputError, match='labels from 0 to 2 here, and 2 classes'):
        TorchvisionDataset(
            'Flowers102', str(flowers), split='val', metainfo=dict(classes=('rose', 'lily'))
        )


def test_synonyms_become_one_name(tmp_path, monkeypatch):
    save(tmp_path / 'imagenette2-160/val/n01440764/a.jpeg', noise(9, 9, 3), format='jpeg')
    dataset = TorchvisionDataset('Imagenette', str(tmp_path), split='val', size='160px')
    assert dataset.metainfo['classes'] == ('tench, Tinca tinca',)


def test_metainfo_renames_the_classes(tmp_path, write_cifar10):
    write_cifar10(tmp_path)
    names = tuple('abcdefghij')
    dataset = TorchvisionDataset('CIFAR10', str(tmp_path), metainfo=dict(classes=names))
    assert dataset.metainfo == dict(classes=names)


def test_a_class_with_its_own_reading_gives_files_and_labels(pets):
    dataset = TorchvisionDataset('OxfordIIITPet', str(pets), pipeline=[])
    assert dataset.metainfo['classes'] == ('Bengal', 'Basset Hound', 'Pug')
    assert dataset.gt_labels.tolist() == [0, 1, 2]
    path = pets / 'oxford-iiit-pet/images/pug_1.jpg'
    assert dataset[2]['data_samples'].img_path == str(path)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(InputError, match=r'pug_1\.jpg: the image cannot be read') as caught:
        dataset[2]
    assert '\n' not in str(caught.value)


def test_labels_and_names_of_another_target_are_not_taken(pets):
    settings = dict(target_types='binary-category', pipeline=[])
    with pytest.raises(InputError, match='does not name these classes: set metainfo'):
        TorchvisionDataset('OxfordIIITPet', str(pets), **settings)
    dataset = TorchvisionDataset(
        'OxfordIIITPet', str(pets), metainfo=dict(classes=('cat', 'dog')), **settings
    )
    assert dataset.gt_labels is None
    assert [int(dataset[i]['data_samples'].gt_label) for i in range(3)] == [0, 1, 1]


def test_greyscale_images_are_repeated():
    dataset = fake(image_size=(1, 8, 8), metainfo=dict(classes=tuple('abcdefghij')))
    image = dataset[1]['inputs']
    assert image.shape == (3, 8, 8)
    assert (image == image[0]).all()


@pytest.mark.parametrize(
    ('name', 'settings', 'error', 'message'),
    [
        ('cifar10', {}, InputError, "has no 'cifar10': did you mean 'CIFAR10'"),
        ('VisionDataset', {}, InputError, "has no 'VisionDataset'"),
        ('CIFAR10', dict(split='val'), InputError,
         r"CIFAR10 does not take 'split' here: it takes train, download$"),
        ('CIFAR10', dict(transform=None), InputError, "does not take 'transform' here"),
        ('EMNIST', dict(ann_file=''), InputError, 'here: it takes split, train, download$'),
        ('EMNIST', {}, InputError, "missing .* 'split'; it takes split, train"),
        ('Flowers102', dict(split='tset'), InputError, 'tset.* it takes split, download, loader'),
        ('CIFAR10', {}, MissingFileError,
         r"CIFAR10 is not in .*nowhere, or not whole: set data_root, or download=True in the da"),
        ('StanfordCars', {}, MissingFileError, 'place there stanford_cars/ with devkit/'),
        ('ImageFolder', {}, MissingFileError, 'No such file.* place there a folder of images'),
        ('ImageNet', {}, MissingFileError, r'archive .*ILSVRC2012_devkit_t12\.tar\.gz is not pre'),
        ('FER2013', {}, MissingFileError, 'kaggle.* place there fer2013/'),
        ('FakeData', dict(size=0), InputError, 'FakeData: no image in .*nowhere'),
        ('FakeData', dict(image_size=(3, 4, 4)), InputError, 'does not name these classes'),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named_in_one_line(tmp_path, name, settings, error, message):
    with pytest.raises(error, match=message) as caught:
        TorchvisionDataset(name, str(tmp_path / 'nowhere'), **settings)
    assert '\n' not in str(caught.value)
    assert isinstance(caught.value, MissingFileError) == (error is MissingFileError)


@pytest.mark.parametrize(
    'names', [('a', 'b'), (*CIFAR10_NAMES[1:], CIFAR10_NAMES[0])], ids=['fewer', 'reordered']
)
def test_metainfo_must_fit_torchvisions_classes(tmp_path, write_cifar10, names):
    write_cifar10(tmp_path)
    with pytest.raises(InputError, match='can only rename the 10 classes .* in their order'):
        TorchvisionDataset('CIFAR10', str(tmp_path), metainfo=dict(classes=names))


def test_a_changed_file_is_not_whole(tmp_path, write_cifar10):
    write_cifar10(tmp_path)
    with open(tmp_path / 'cifar-10-batches-py/data_batch_3', 'ab') as file:
        file.write(b'0')
    with pytest.raises(MissingFileError, match='or not whole'):
        TorchvisionDataset('CIFAR10', str(tmp_path))


def test_samples_without_a_class_number_are_refused(tmp_path):
    folder = tmp_path / 'VOCdevkit/VOC2012'
    save(folder / 'JPEGImages/a.jpg', noise(9, 7, 3))
    save(folder / 'SegmentationClass/a.png', noise(9, 7))
    (folder / 'ImageSets/Segmentation').mkdir(parents=True)
    (folder / 'ImageSets/Segmentation/train.txt').write_text('a\n')
    with pytest.raises(InputError, match='VOCSegmentation gives no image with a class number'):
        TorchvisionDataset('VOCSegmentation', str(tmp_path))


@pytest.mark.parametrize(
    ('raised', 'message'),
    [
        (URLError('no route'), r'download of .*CIFAR10 to .* failed \(.*no route.*\): try again'),
        (RuntimeError('File not found or corrupted.'), 'failed .*corrupted.*: try again'),
        (RuntimeError("'gdown' is required:\npip install gdown"), 'needs a package: .*gdown'),
        (ModuleNotFoundError("No module named 'lmdb'"), "needs a package: .*'lmdb'"),
    ],
)
def test_a_failed_download_is_told_in_one_line(tmp_path, monkeypatch, raised, message):
    def fail(self):
        raise raised

    monkeypatch.setattr(datasets.CIFAR10, 'download', fail)
    with pytest.raises(InputError, match=message) as caught:
        TorchvisionDataset('CIFAR10', str(tmp_path), download=True)
    assert '\n' not in str(caught.value)


def test_one_process_of_a_machine_downloads_and_the_others_wait(
    tmp_path, monkeypatch, write_cifar10
):
    order = []

    def download(self):
        order.append('download')
        if not Path(self.root).exists():
            write_cifar10(self.root)

    monkeypatch.setattr(datasets.CIFAR10, 'download', download)
    monkeypatch.setattr(torchvision_dataset, 'barrier', lambda: order.append('barrier'))
    monkeypatch.setattr(torchvision_dataset, 'is_distributed', lambda: True)
    for rank in ('0', '1'):
        monkeypatch.setenv('LOCAL_RANK', rank)
        TorchvisionDataset('CIFAR10', str(tmp_path / 'data'), download=True)
    assert order == ['download', 'barrier', 'barrier', 'download']
    TorchvisionDataset('CIFAR10', str(tmp_path / 'data'))
    assert len(order) == 4
