"""One image that cannot be read, or that the model cannot take, does not end a batch of others."""

import os
import shutil
import sys

import numpy as np
import pytest
from claimed_sizes import claim, encode
from PIL import Image

from tresnet_det.inference import onnx_runner
from tresnet_det.inference.inputs import InputImage
from tresnet_det.inference.predictor import Predictor

GOOD = ('a.png', 'z.png')


def write_odd_images(folder):
    """Write images that decoders or pipelines refuse, between two good ones; return all names."""
    folder.mkdir(exist_ok=True)
    Image.new('RGB', (48, 32), (9, 90, 200)).save(folder / GOOD[0])
    Image.new('RGB', (5000, 1)).save(folder / 'line.png')
    Image.new('RGB', (1, 5000)).save(folder / 'upright.png')
    whole = (folder / GOOD[0]).read_bytes()
    (folder / 'cut.png').write_bytes(whole[: len(whole) // 2])
    (folder / 'cut.jpg').write_bytes(encode('JPEG', (64, 64))[:400])
    (folder / 'empty.jpg').touch()
    (folder / 'page.jpg').write_text('<html>not found</html>')
    (folder / 'bomb.jpg').write_bytes(claim('JPEG', 30000, 30000))
    (folder / 'broken_link.jpg').symlink_to('nowhere')
    (folder / 'loop.png').symlink_to('loop.png')
    os.mkfifo(folder / 'pipe.jpg')
    os.mkfifo(folder / 'pipe.mp4')
    shutil.copy(folder / GOOD[0], folder / GOOD[1])
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize('task', ['detection', 'classification'])
def test_predict_names_each_and_goes_on(task, trained, run, tmp_path):
    names, done = write_odd_images(tmp_path / 'odd'), trained(task)
    arguments = done.as_run, done.checkpoint, tmp_path / 'odd', '--out-dir', tmp_path / 'out'
    result = run('predict', *arguments)
    assert result.code == 0, result.printed
    skipped = [name for name in names if f'skipped {tmp_path / "odd" / name}: ' in result.err]
    lines = 2 if task == 'detection' else 0  # which a classifier squeezes to a square
    assert len(skipped) == len(names) - len(GOOD) - (0 if lines else 2)
    assert not set(skipped) & set(GOOD)
    assert f'{len(skipped)} of {len(names)} could not be predicted' in result.err
    assert f'Predicted {len(names) - len(skipped)} images' in result.out
    strict = run('predict', *arguments, '--strict')
    assert strict.code == 2
    last = f'error: {len(skipped)} of {len(names)} could not be predicted, as named above'
    assert strict.err.splitlines()[-1] == last
    assert f'Predicted {len(names) - len(skipped)} images' in strict.out


def test_the_model_refuses_one_image_of_a_batch(trained):
    done = trained('detection')
    predictor, refused = Predictor(done.as_run, done.checkpoint, 'cpu'), []
    infer, calls = predictor.infer, []

    def refuse(prepared, batch_size):
        calls.append(len(prepared))
        if any(one['data_samples'].ori_shape == (40, 20) for one in prepared):
            raise RuntimeError('no such\n shape')
        return infer(prepared, batch_size)

    predictor.infer = refuse
    sizes = ((40, 40), (40, 20), (64, 64))
    images = [
        InputImage(f'{n}.png', np.zeros((*size, 3), np.uint8)) for n, size in enumerate(sizes)
    ]
    found = list(predictor.stream(images, lambda *a: refused.append(a), batch_size=3))
    assert [image.name for image, _ in found] == ['0.png', '2.png']
    ((name, error),) = refused
    assert name == '1.png'
    assert str(error) == '1.png: the model cannot take an image of 20x40 pixels (no such shape)'
    assert calls == [3, 1, 1, 1]


class Model:
    """In place of an exported file's, with its own way of reading."""

    task, classes, score_thr = 'classifier', ['cat', 'dog'], np.array(0.3)

    def __init__(self, path, **options):
        assert path == 'model.onnx'

    def read(self, path):
        return onnx_runner.read_rgb(path, prefer_opencv=True)

    def predict(self, image):
        if min(image.shape[:2]) < 2:
            raise RuntimeError('onnxruntime cannot take it')
        return dict(scores=np.array([0.9, 0.1]))


@pytest.mark.parametrize('strict', [False, True])
def test_the_runner_names_each_and_goes_on(strict, tmp_path, monkeypatch, capsys):
    names = write_odd_images(tmp_path)
    (tmp_path / 'loop.jpg').symlink_to('.')  # a folder and a companion file are passed over
    (tmp_path / '._a.png').touch()
    assert [name for name, _ in onnx_runner.find_images([str(tmp_path)])] == [
        str(tmp_path / name) for name in names
    ]
    monkeypatch.setattr(onnx_runner, 'OnnxModel', Model)
    files = [str(tmp_path / name) for name in names] + [str(tmp_path / 'none.png')]
    monkeypatch.setattr(sys, 'argv', ['runner', 'model.onnx', *files, *['--strict'] * strict])
    with pytest.raises(SystemExit) as stop:
        onnx_runner.main()
    assert (stop.value.code or 0) == (2 if strict else 0)
    out, err = capsys.readouterr()
    for path in files:
        good = path.endswith(GOOD)
        assert ((f'{path}\n  0.900  cat' in out), (f'skipped {path}: ' in err)) == (good, not good)
    assert err.splitlines()[-1] == f'{len(files) - 2} of {len(files)} could not be predicted'


def test_the_keyboard_ends_the_runner_and_what_was_predicted_is_written(tmp_path, monkeypatch):
    def interrupted(*arguments):
        yield 'a.png', np.zeros((4, 4, 3), np.uint8), dict(scores=np.array([0.9, 0.1]))
        raise KeyboardInterrupt

    monkeypatch.setattr(onnx_runner, 'OnnxModel', Model)
    monkeypatch.setattr(onnx_runner, 'predict_each', interrupted)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'argv', ['runner', 'model.onnx', '0', '--format', 'csv'])
    with pytest.raises(SystemExit) as stop:
        onnx_runner.main()
    assert stop.value.code == 130
    assert 'a.png,cat,0.9' in (tmp_path / 'predictions/predictions.csv').read_text()


def test_a_line_of_pixels_is_not_blown_up(monkeypatch):
    from tresnet_det.datasets.decode import to_tensor
    from tresnet_det.datasets.pipeline import build_transforms

    line = np.zeros((1, 60000, 3), np.uint8)
    with pytest.raises(ValueError, match='after Resize: .*256 x 15360000'):
        build_transforms([dict(type='Resize', size=256)])(to_tensor(line))
    step = dict(type='short_side', size=256, resampling='bilinear')
    with pytest.raises(ValueError, match='too narrow.* 15360000 pixels; crop it'):
        onnx_runner.apply_step(line, step)
    monkeypatch.setenv('TRESNET_DET_MAX_PIXELS', str(256 * 512 - 1))
    with pytest.raises(ValueError, match='too narrow'):
        onnx_runner.apply_step(line[:, :2], step)
