"""tools/predict.py on what users give it, beside tools/test.py and MMDetection's DetInferencer."""

import csv
import json
import shutil

import cv2
import mmengine
import numpy as np
import pytest
import torch
from pycocotools.coco import COCO

DIGITS = list('0123456789')


@pytest.fixture
def work_dir(trained, tmp_path):
    """A copy of a training that may get results: ``work_dir('detection')``."""

    def make(task):
        done, folder = trained(task), tmp_path / task
        folder.mkdir()
        for file in (done.as_run, done.checkpoint):
            shutil.copy(file, folder)
        (folder / 'last_checkpoint').write_text(str(folder / done.checkpoint.name))
        return folder

    return make


@pytest.fixture
def detector(work_dir):
    return work_dir('detection')


@pytest.fixture
def images(data):
    return data.folder / 'val2017'


def by_image(out):
    """Boxes as x1 y1 x2 y2, score and class of each file, in the order of the scores."""
    images = {i['id']: i['file_name'] for i in read(out / 'images.json')['images']}
    found = {name: [] for name in images.values()}
    for entry in read(out / 'results.bbox.json'):
        x, y, w, h = entry['bbox']
        row = [x, y, x + w, y + h, entry['score'], entry['category_id'] - 1]
        found[images[entry['image_id']]].append(row)
    return {name: torch.tensor(rows, dtype=torch.float64) for name, rows in found.items()}


def read(path):
    return json.loads(path.read_text())


def drawn(out):
    return sorted(path.name for path in (out / 'images').iterdir())


def test_the_boxes_are_those_of_test_and_of_mmdetections_inferencer(
    trained, demo_data, run, tmp_path
):
    from mmdet.apis import DetInferencer

    done, images = trained('detection'), demo_data / 'val2017'
    kept, out = tmp_path / 'kept.pkl', tmp_path / 'out'
    arguments = done.as_run, done.checkpoint
    result = run('test', *arguments, '--out', kept, '--work-dir', tmp_path / 'test')
    assert result.code == 0, result.err
    options = '--out-dir', out, '--batch-size', 4, '--device', 'cpu'
    result = run('predict', *arguments, images, *options)
    assert (result.code, result.err) == (0, '')
    assert '/000001.png  ' in result.out
    assert drawn(out) == [f'{number:06}.png' for number in range(1, 7)]
    found = by_image(out)
    assert len(found) == 6
    for sample in mmengine.load(kept):
        expected = sample['pred_instances']
        rows = found[str(sample['img_path'])]
        assert len(rows) == len(expected['scores']) > 5
        columns = (expected['bboxes'], expected['scores'][:, None], expected['labels'][:, None])
        torch.testing.assert_close(rows.float(), torch.cat(columns, 1), rtol=1e-5, atol=1e-5)

    inferencer = DetInferencer(*map(str, arguments), device='cpu', show_progress=False)
    theirs = inferencer(list(found), batch_size=3)['predictions']
    arrays = inferencer([cv2.imread(path) for path in found])['predictions']
    for path, one, same in zip(found, theirs, arrays, strict=True):
        assert len(one['scores']) == 20
        rows = np.column_stack([one['bboxes'], one['scores'], one['labels']])
        np.testing.assert_allclose(found[path].numpy(), rows, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(one['bboxes'], same['bboxes'], rtol=1e-5, atol=1e-4)
    inferencer(str(images), out_dir=str(tmp_path / 'theirs'), no_save_pred=False)
    assert len(list((tmp_path / 'theirs' / 'vis').iterdir())) == 6


def test_a_work_directory_keeps_results_that_load_with_the_ids_of_an_annotation_file(
    detector, data, images, run
):
    result = run('predict', detector, images / '*.png')
    assert result.code == 0, result.err
    assert 'Predicted 6 images by detection/epoch_2.pth on ' in result.out
    out, ann_file = detector / 'predict', data.folder / 'annotations' / 'instances_val2017.json'
    assert len(drawn(out)) == 6
    results = COCO(out / 'images.json').loadRes(str(out / 'results.bbox.json'))
    assert sorted(results.imgs) == [1, 2, 3, 4, 5, 6]

    def renumber(content):
        for image in content['images']:
            image['id'] += 500
        for annotation in content['annotations']:
            annotation['image_id'] += 500

    data.edit('val', renumber)
    assert run('predict', detector, images, '--no-images', '--ann-file', ann_file).code == 0
    truth = COCO(ann_file)
    results = truth.loadRes(str(out / 'results.bbox.json'))
    assert len(results.anns) > 0
    assert min(results.imgs) == min(truth.imgs) > 500
    line = run('predict', detector, data.folder / 'train2017', '--ann-file', ann_file).error
    assert 'does not name the image' in line


def test_what_is_not_searched_and_what_an_earlier_run_left_is_said_in_a_line(
    detector, images, run, tmp_path
):
    out, below = tmp_path / 'out', images / 'below'
    below.mkdir()
    (images / '000003.png').rename(below / '000001.png')
    result = run('predict', detector, images, '--out-dir', out)
    assert (result.code, result.err) == (0, '')
    pattern = f'{images}/**/*'
    assert f"note: folders below are not searched; their images too: '{pattern}'" in result.out
    assert 'earlier' not in result.out
    result = run('predict', detector, pattern, '--out-dir', out)
    assert result.code == 0
    assert 'not searched' not in result.out
    assert len(drawn(out)) == len(read(out / 'images.json')['images']) == 6
    result = run('predict', detector, below, '--out-dir', out)
    line = '  earlier   5 files there are not of this run, such as out/images/000001_2.png\n'
    assert line in result.out
    assert len(drawn(out)) == 6


def test_corrupt_images_are_named_and_the_rest_is_done(detector, images, run, tmp_path):
    whole = (images / '000002.png').read_bytes()
    (images / '000002.png').write_bytes(whole[:200])
    (images / 'empty.jpg').touch()
    (images / 'text.jpg').write_text('no image')
    (images / 'clip.mp4').write_text('no video')
    cv2.imwrite(str(images / 'line.png'), np.zeros((1, 6000, 3), np.uint8))
    (images / 'notes.txt').touch()
    out = tmp_path / 'out'
    result = run('predict', detector, images, '--out-dir', out)
    assert result.code == 0
    *lines, last = result.err.splitlines()
    assert last == '5 of 10 could not be predicted, as named above'
    assert [line.split(': ')[0] for line in lines] == [
        f'skipped {images / name}'
        for name in ('000002.png', 'clip.mp4', 'empty.jpg', 'line.png', 'text.jpg')
    ]
    assert drawn(out) == [f'{number:06}.png' for number in (1, 3, 4, 5, 6)]
    assert len(read(out / 'images.json')['images']) == 5


def test_a_video_becomes_a_video_with_the_frames_that_were_taken(detector, run, tmp_path):
    clip, out = tmp_path / 'clip.mp4', tmp_path / 'out'
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter_fourcc(*'mp4v'), 12, (64, 48))
    for number in range(7):
        writer.write(np.full((48, 64, 3), 30 * number, np.uint8))
    writer.release()
    result = run('predict', detector, clip, '--video-stride', 3, '--out-dir', out)
    assert (result.code, result.err) == (0, '')
    names = [image['file_name'] for image in read(out / 'images.json')['images']]
    assert names == [f'{clip}#{number}' for number in (0, 3, 6)]
    assert drawn(out) == ['clip.mp4']
    capture = cv2.VideoCapture(str(out / 'images' / 'clip.mp4'))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(4)
    frames = [capture.read()[0] for _ in range(4)]
    assert frames == [True, True, True, False]
    assert 'clip.mp4 (3 frames)' in result.out


def test_urls_and_equal_names_do_not_collide_and_nothing_is_drawn_outside_the_folder(
    detector, images, serve, run, tmp_path
):
    (images / 'text.png').write_text('no image')
    other = tmp_path / 'other' / 'deeper'
    other.mkdir(parents=True)
    for name in ('000001.png', 'a  b.png'):
        shutil.copy(images / '000003.png', other / name)
    before = {path for path in tmp_path.rglob('*') if 'out' not in path.parts}
    up = other / '..' / '..' / 'other' / 'deeper'
    url, out = serve(images), tmp_path / 'out'
    urls = [f'{url}/none.png', f'{url}/text.png', f'{url}/000001.png?size=../../x']
    inputs = *urls, images / '000001.png', up / '*.png'
    result = run('predict', detector, *inputs, '--out-dir', out)
    assert result.code == 0
    first, second, last = result.err.splitlines()
    assert first.startswith(f'skipped {url}/none.png: cannot be had (404')
    assert second.startswith(f'skipped {url}/text.png: not an image')
    assert last == '2 of 6 could not be predicted, as named above'
    found = by_image(out)
    assert torch.equal(found[urls[2]], found[str(images / '000001.png')])
    assert drawn(out) == ['000001.png', '000001_2.png', '000001_3.png', 'a_b.png']
    assert {path for path in tmp_path.rglob('*') if 'out' not in path.parts} == before
    pairs = {i['file_name']: i['drawn'] for i in read(out / 'images.json')['images']}
    assert pairs[str(up / '000001.png')] == 'images/000001_3.png'


def test_the_classes_of_a_classifier_are_those_that_test_computes(
    work_dir, demo_data, run, tmp_path
):
    images = demo_data / 'val2017'
    work, kept, out = work_dir('multilabel'), tmp_path / 'kept.pkl', tmp_path / 'out'
    options = ['--out', kept, '--work-dir', tmp_path / 'test']
    result = run('test', work / 'tiny.py', work, *options)
    assert result.code == 0, result.err
    result = run('predict', work, images, '--out-dir', out, '--score-thr', 0)
    assert (result.code, result.err) == (0, '')
    found = {entry['file']: entry['predictions'] for entry in read(out / 'results.json')}
    assert len(found) == 6
    for sample in mmengine.load(kept):
        scores = {p['label']: p['score'] for p in found[sample['img_path']]}
        scores = torch.tensor([scores[label] for label in range(10)])
        torch.testing.assert_close(scores, sample['pred_score'], rtol=1e-5, atol=1e-5)
    with (out / 'results.csv').open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 60
    assert {row['class'] for row in rows} == set(DIGITS)
    assert drawn(out) == [f'{number:06}.png' for number in range(1, 7)]


def test_of_one_label_the_top_classes_are_listed_and_ann_file_is_refused(
    work_dir, images, run, tmp_path
):
    work, out = work_dir('classification'), tmp_path / 'out'
    result = run('predict', work, images, '--out-dir', out, '--top', 2, '--no-images')
    assert result.code == 0, result.err
    for entry in read(out / 'results.json'):
        scores = [p['score'] for p in entry['predictions']]
        assert scores == sorted(scores, reverse=True)
        assert len(scores) == 2
    assert not (out / 'images').exists()
    assert '--ann-file' in run('predict', work, images, '--ann-file', 'x.json').error
