"""The tools run nothing that a checkpoint or a dataset carries, and write where they are told."""

import os
import pickle

import pytest
import torch


class MakesFolder:
    """Unpickled by the letter, it makes a folder."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.fixture
def evil(tmp_path):
    """A work directory whose best and last checkpoint would make a folder ``made``."""
    work = tmp_path / 'evil'
    work.mkdir()
    content = dict(state_dict=MakesFolder(tmp_path / 'made'), meta=dict(epoch=1, iter=1))
    torch.save(content, work / 'best_1.pth')
    (work / 'last_checkpoint').write_text(str(work / 'best_1.pth'))
    return work


@pytest.mark.parametrize(
    'arguments',
    [
        'train {config} --work-dir {evil} --resume',
        'train {config} --work-dir {work} --pretrained {evil}',
        'test {config} {file} --work-dir {work} --data {data}',
        'predict {evil} {image} --out-dir {work}',
        'export {config} {file} --out {work}/a.onnx',
        'convert_weights {file} {work}/a.pth --to timm',
        'publish_weights {file}',
    ],
)
def test_no_tool_runs_what_a_checkpoint_carries(
    arguments, evil, config, demo_data, run, tmp_path, monkeypatch
):
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    if arguments.startswith('predict {evil}'):
        (evil / 'config.py').write_text(config.read_text())
    image = next((demo_data / 'val2017').iterdir())
    places = dict(config=config, evil=evil, file=evil / 'best_1.pth', work=tmp_path / 'work')
    places |= dict(data=demo_data, image=image)
    line = run(*(part.format(**places) for part in arguments.split())).error
    assert 'best_1.pth' in line
    assert 'refused: it needs' in line
    assert not (tmp_path / 'made').exists()


YAML = 'names: !!python/object/apply:os.mkdir [{made}]\ntrain: images\n'


@pytest.mark.parametrize(
    ('name', 'arguments'),
    [
        ('evil.json', 'check_data {file}'),
        ('evil.csv', 'check_data {file}'),
        ('evil.pkl', 'check_data {file}'),
        ('evil.pkl', 'train {config} --work-dir {work} --data {file}'),
        ('evil.pkl', 'train {config} --work-dir {work} --cfg-options '
                     'train_dataloader.dataset.ann_file={file}'),
        ('data.yaml', 'check_data {file}'),
        ('data.yaml', 'train {config} --work-dir {work} --data {folder}'),
    ],
)  # fmt: skip
def test_no_tool_runs_what_data_carries(name, arguments, config, run, tmp_path):
    folder, made = tmp_path / 'set', tmp_path / 'made'
    folder.mkdir()
    content = YAML.format(made=made).encode() if name == 'data.yaml' else pickle.dumps(
        MakesFolder(made)
    )  # fmt: skip
    (folder / name).write_bytes(content)
    places = dict(config=config, work=tmp_path / 'work', file=folder / name, folder=folder)
    result = run(*(part.format(**places) for part in arguments.split()))
    assert result.code in (1, 2), result.printed
    assert 'Traceback' not in result.printed
    assert name in result.printed
    assert not made.exists()
