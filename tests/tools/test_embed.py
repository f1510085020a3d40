"""tools/embed.py, beside a plain forward, timm and scikit-learn."""

import csv
import json
import math
import re
import resource
import shutil
import sys

import cv2
import numpy as np
import pytest
import timm
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torchvision.transforms.v2.functional import resize

from tresnet_det import TResNet
from tresnet_det.checkpoints import load_backbone_weights
from tresnet_det.checkpoints.formats import find_arch
from tresnet_det.engine.work_dir import find_checkpoint
from tresnet_det.errors import InputError
from tresnet_det.inference.embedder import Embedder, find_neighbors, probe

LINEAR = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))


def table(path):
    with path.open(newline='') as file:
        return list(csv.DictReader(file))


def rgb(path):
    return cv2.imread(str(path))[..., ::-1].copy()


def boxes_of(folder, split):
    content = json.loads((folder / f'annotations/instances_{split}2017.json').read_text())
    order = [category['id'] for category in content['categories']]
    return [(a['bbox'], order.index(a['category_id'])) for a in content['annotations']]


@torch.no_grad()
def pooled(model, images):
    """Features of images of 64 pixels, which are not resized, each alone."""
    inputs = (torch.from_numpy(image).permute(2, 0, 1)[None] / 255 for image in images)
    return np.concatenate([model(each).mean((2, 3)).numpy() for each in inputs])


def check_equal(features, expected):
    assert features.dtype == np.float32
    # Sums of up to 9 x 128 products.
    bound = 10 * np.finfo(np.float32).eps * np.sqrt(9 * 128) * np.abs(expected).max()
    np.testing.assert_allclose(features, expected, rtol=0, atol=bound)


@pytest.fixture
def backbone(tiny_arch):
    def load(path):
        model = TResNet(arch=tiny_arch, out_indices=(3,)).eval()
        load_backbone_weights(model, str(path))
        return lambda inputs: model(inputs)[-1]

    return load


@pytest.mark.parametrize('task', ['detection', 'multilabel', 'classification'])
def test_features_are_the_pooled_output_of_the_backbone_of_any_task(
    task, trained, backbone, data, run, tmp_path
):
    source, paths = trained(task), sorted((data.folder / 'val2017').iterdir())
    (data.folder / 'val2017' / '0.png').write_bytes(b'no image')
    options = '--img-size', 64, '--batch-size', 4, '--out', tmp_path / 'f.npy', '--device', 'cpu'
    result = run('embed', source.work_dir, data.folder / 'val2017', *options)
    assert result.code == 0, result.printed
    assert [row['file'] for row in table(tmp_path / 'f.csv')] == list(map(str, paths))
    assert result.err.count('skipped') == 1
    expected = pooled(backbone(find_checkpoint(source.work_dir)), map(rgb, paths))
    check_equal(np.load(tmp_path / 'f.npy'), expected)


def test_the_arch_of_a_file_is_read_from_it_and_a_classifier_has_its_own_pipeline(
    trained, tmp_path
):
    source, image = trained('classification'), np.zeros((90, 70, 3), np.uint8)
    sides = []
    for weights in (shutil.copy(source.checkpoint, tmp_path / 'moved.pth'), source.checkpoint):
        prepared = Embedder(str(weights), device='cpu').prepare(image)
        sides.append(tuple(prepared['inputs'].shape))
    assert sides == [(3, 224, 224), (3, 64, 64)]


@pytest.mark.parametrize(
    'arch',
    [
        dict(depths=(1, 2, 3, 1), width_factor=1.2),
        dict(depths=(2, 1, 1, 1), width_factor=0.3, block_types=('bottleneck',) * 4),
        dict(depths=(1,) * 4, stem='conv', se_stages=(False,) * 4),
    ],
)
def test_an_arch_is_known_by_its_weights(arch):
    with torch.device('meta'):
        weights = TResNet(arch=arch).state_dict()
        again = TResNet(arch=find_arch(weights)).state_dict()
    assert {k: v.shape for k, v in weights.items()} == {k: v.shape for k, v in again.items()}


def test_timms_weights_give_timms_features(data, run, tmp_path, monkeypatch):
    model = timm.models.tresnet.TResNet([1, 1, 1, 1], width_factor=0.25, num_classes=3).eval()
    torch.save(model.state_dict(), tmp_path / 'timm.pth')
    path = str(tmp_path / 'timm.pth')
    monkeypatch.setattr('huggingface_hub.hf_hub_download', lambda *_: path)
    images = sorted((data.folder / 'val2017').iterdir())
    assert (
        run('embed', 'timm://tresnet_x.in1k', *images, '--img-size', 64, '--device', 'cpu').code
        == 0
    )
    found = np.load(tmp_path / 'embed/features.npy')
    check_equal(found, pooled(model.forward_features, map(rgb, images)))


@pytest.mark.parametrize('of_others', [False, True])
def test_neighbours_are_scikit_learns(of_others):
    features, queries = np.random.default_rng(0).normal(size=(2, 300, 16)).astype(np.float32)
    rows, cosines = find_neighbors(features, 4, queries if of_others else None)
    search = NearestNeighbors(n_neighbors=4, metric='cosine', algorithm='brute').fit(features)
    distances, expected = search.kneighbors(queries if of_others else None)
    assert (rows == expected).all()
    np.testing.assert_allclose(cosines, 1 - distances, rtol=0, atol=1e-5)


def test_equal_images_are_each_others_neighbours_and_none_is_its_own():
    rows, cosines = find_neighbors(np.ones((3, 2), np.float32), 9)
    assert rows.tolist() == [[1, 2], [0, 2], [0, 1]]
    np.testing.assert_allclose(cosines, 1)
    assert find_neighbors(np.ones((1, 2), np.float32), 9)[0].shape == (1, 0)


def test_a_probe_by_cross_validation_is_scikit_learns():
    rng = np.random.default_rng(0)
    labels = np.array([0] * 30 + [1] * 20 + [2] * 10)
    features = rng.normal(size=(60, 8)) + labels[:, None]
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    linear = cross_val_score(LINEAR, features, labels, cv=folds) * 100
    nearest = KNeighborsClassifier(1, metric='cosine', algorithm='brute')
    nearest = cross_val_score(nearest, features, labels, cv=folds) * 100
    assert probe(features, labels, ['train'] * 60) == (
        f'linear probe: {linear.mean():.1f} % top-1 (5-fold, ±{linear.std():.1f}); chance 50.0 %; '
        f'1-nearest neighbour {nearest.mean():.1f} %'
    )


def test_a_probe_of_several_labels_is_the_mean_of_a_classifier_each_on_what_is_known():
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(80, 6)), rng.integers(-1, 2, (80, 3))
    features[:, :3] += labels
    x, y, tested, truth = features[:50], labels[:50], features[50:], labels[50:]
    precisions, shares = [], []
    for column in range(3):
        rows, known = y[:, column] >= 0, truth[:, column] >= 0
        # Scaled by all rows, as unlabelled ones tell of the features, too.
        scaler = StandardScaler().fit(x)
        model = LogisticRegression().fit(scaler.transform(x[rows]), y[rows, column])
        scores = model.decision_function(scaler.transform(tested[known]))
        precisions.append(average_precision_score(truth[known, column], scores))
        shares.append(truth[known, column].mean())
    line = probe(features, labels, ['train'] * 50 + ['val'] * 30)
    begin = f'linear probe: {np.mean(precisions) * 100:.1f} % mAP (trained on 50 of train, measured'
    assert line.startswith(f'{begin} on 30 of val); chance {np.mean(shares) * 100:.1f} %; ')


@pytest.mark.parametrize('labels', [np.zeros(9, int), np.arange(9), np.zeros((9, 2), int)])
def test_a_probe_of_nothing_to_tell_apart_is_a_mistake_of_one_line(labels):
    with pytest.raises(InputError, match='^(a probe needs at least two|no label is there)'):
        probe(np.random.default_rng(0).normal(size=(9, 4)), labels, ['train'] * 9)


def test_a_dataset_of_class_folders_is_judged_and_its_neighbours_are_drawn(
    trained, class_folders, run, tmp_path
):
    options = '--neighbors', 2, '--sheet', 'sheet.png', '--out', 'f.npy', '--device', 'cpu'
    work_dir = trained('classification').work_dir
    result = run('embed', work_dir, '--data', class_folders, *options)
    assert '24 x 512 features' in result.out
    # Colours can be told apart.
    assert (
        'linear probe: 100.0 % top-1 (trained on 12 of train, measured on 12 of val); '
        'chance 33.3 %; 1-nearest neighbour 100.0 %\n'
    ) in result.out
    rows = table(tmp_path / 'f.csv')
    for row in rows:
        assert row['file'] == str(class_folders / row['split'] / row['label'] / row['file'][-5:])
    pairs = table(tmp_path / 'f_neighbors.csv')
    assert [row['rank'] for row in pairs] == ['1', '2'] * 24
    features, names = np.load(tmp_path / 'f.npy'), [row['file'] for row in rows]
    search = NearestNeighbors(n_neighbors=1, metric='cosine', algorithm='brute').fit(features)
    closest = search.kneighbors()[1][:, 0]
    assert [row['neighbor'] for row in pairs[::2]] == [names[number] for number in closest]
    assert cv2.imread(str(tmp_path / 'sheet.png')).shape[1] > 1000


def test_of_a_detection_dataset_the_boxes_are_judged(trained, backbone, data, run, tmp_path):
    source, names = trained('detection'), list('0123456789')
    options = '--data', data.folder, '--out', 'f.npy', '--device', 'cpu', '--img-size', 64
    line = run('embed', source.work_dir, *options).out.splitlines()[-1]
    truth = {split: boxes_of(data.folder, split) for split in ('train', 'val')}
    counts = [len(boxes) for boxes in truth.values()]
    assert f'(trained on {counts[0]} of train, measured on {counts[1]} of val)' in line
    rows, features = table(tmp_path / 'f.csv'), np.load(tmp_path / 'f.npy')
    assert len(rows) == sum(counts)
    model = backbone(find_checkpoint(source.work_dir))
    for row, vector in list(zip(rows, features, strict=True))[:: len(rows) // 3]:
        path, number = row['file'].split('#')
        (x, y, w, h), label = truth[row['split']][int(number)]
        assert names[label] == row['label']
        crop = rgb(path)[int(y) : math.ceil(y + h), int(x) : math.ceil(x + w)].copy()
        square = resize(torch.from_numpy(crop).permute(2, 0, 1), [64, 64], antialias=True)
        check_equal(vector[None], pooled(model, [square.permute(1, 2, 0).numpy()]))


def test_a_query_need_not_be_among_the_images(trained, data, run, tmp_path):
    first, *others = sorted((data.folder / 'val2017').iterdir())
    work_dir = trained('multilabel').work_dir
    options = '--query', first, '--neighbors', 3, '--out', 'f.npy', '--device', 'cpu'
    assert run('embed', work_dir, *others, first, *options).code == 0
    pairs = table(tmp_path / 'f_neighbors.csv')
    assert [row['file'] for row in pairs] == [str(first)] * 3
    assert (pairs[0]['neighbor'], float(pairs[0]['cosine'])) == (str(first), pytest.approx(1))


def test_a_parquet_file_has_names_and_features(trained, class_folders, run, tmp_path):
    parquet = pytest.importorskip('pyarrow.parquet')
    work_dir = trained('classification').work_dir
    for name in ('f.npy', 'f.parquet'):
        result = run('embed', work_dir, '--data', class_folders, '--out', name, '--device', 'cpu')
        assert result.code == 0, result.printed
    read, rows = parquet.read_table(tmp_path / 'f.parquet'), table(tmp_path / 'f.csv')
    assert read.select(['file', 'split', 'label']).to_pylist() == rows
    features = np.stack(read['features'].to_numpy())
    np.testing.assert_array_equal(features, np.load(tmp_path / 'f.npy'))


def test_nothing_is_left_of_what_was_interrupted(
    trained, class_folders, run, tmp_path, monkeypatch
):
    work_dir = trained('classification').work_dir
    whole = Embedder.stream

    def stop(*args):
        yield next(whole(*args))
        raise KeyboardInterrupt

    monkeypatch.setattr(Embedder, 'stream', stop)
    result = run('embed', work_dir, class_folders / 'val/red', '--out', 'out/f.npy')
    assert (result.code, list((tmp_path / 'out').iterdir())) == (130, [])


def test_a_full_disk_is_one_line_and_leaves_nothing(trained, class_folders, run, tmp_path):
    work_dir, limits = trained('classification').work_dir, resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (32_000, limits[1]))
        result = run('embed', work_dir, class_folders / '**/*.png', '--out', 'out/f.npy')
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert result.error.endswith('out: cannot be written (File too large)')
    assert list((tmp_path / 'out').iterdir()) == []


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ([], r'give images, or --data FOLDER \(a linear probe needs labels\)'),
        (['IMAGE', '--data', '.'], 'give images, or --data'),
        (['IMAGE', '--sheet', 's.png'], 'give --neighbors K or --query'),
        (['IMAGE', '--out', 'f.csv'], 'f.csv: give a file that ends in .npy or .parquet'),
        (['IMAGE', '--out', 'f.parquet'], 'parquet needs pyarrow: pip install pyarrow'),
        (['IMAGE', '--out', 'f.npy'], 'other.pth holds no TResNet'),
        (['--data', 'own', '--out', 'own/labels.npy'], '--out own/labels.npy is in own, among'),
    ],
)
def test_a_mistake_is_one_line(options, message, class_folders, run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'pyarrow', None)
    torch.save({'weight': torch.zeros(3)}, tmp_path / 'other.pth')
    image = class_folders / 'val/red/0.png'
    options = [str(image) if option == 'IMAGE' else option for option in options]
    assert re.search(message, run('embed', 'other.pth', *options).error)
