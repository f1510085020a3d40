"""What mmengine saves loads with weights_only=True; what would run code does not."""

import os
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import safetensors.torch
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer
from mmengine.optim import OneCycleLR
from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler
from mmengine.runner.checkpoint import CheckpointLoader

from tresnet_det.compat.checkpoint_io import load_checkpoint_file
from tresnet_det.errors import InputError, MissingFileError

RECONSTRUCT = np.empty(0).__reduce__()[0]  # where it lives depends on numpy


class Calls:
    """Pickles as a call of a function."""

    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


def test_a_runs_checkpoint_comes_back_and_can_be_saved_again(trained, tmp_path):
    content = load_checkpoint_file(trained('classification').checkpoint)
    metainfo = ConfigDict(palette=np.zeros((2, 3), np.uint8))
    content['message_hub']['runtime_info'] |= dict(best=np.float64(0.25), metainfo=metainfo)
    torch.save(content, tmp_path / 'again.pth')
    saved = load_checkpoint_file(tmp_path / 'again.pth')
    assert {'meta', 'state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers'} < set(saved)
    history = saved['message_hub']['log_scalars']['train/loss']
    assert type(history) is HistoryBuffer
    assert history.mean() == pytest.approx(history.data[0].mean())
    info = saved['message_hub']['runtime_info']
    assert info['best'] == 0.25
    assert type(info['metainfo']) is ConfigDict
    assert info['metainfo'].palette.dtype == np.uint8


@pytest.mark.skipif(not os.path.exists('/proc/self/mem'), reason='needs /proc')
def test_a_disk_that_fails_is_told_with_the_file(tmp_path):
    (tmp_path / 'a.pth').symlink_to('/proc/self/mem')  # where nothing can be read at 0
    with pytest.raises(InputError, match=r'a\.pth: unreadable .input'):
        load_checkpoint_file(tmp_path / 'a.pth')


@pytest.mark.parametrize('kind', [dict, OrderedDict])
def test_the_text_of_a_config_does_not_reach_a_run_that_resumes(tmp_path, kind):
    meta = kind(iter=2, config='import os')
    if kind is OrderedDict:
        meta.pop = bytes  # an attribute travels in the pickle
    torch.save(dict(state_dict={}, meta=meta), tmp_path / 'evil.pth')
    meta = CheckpointLoader.load_checkpoint(str(tmp_path / 'evil.pth'))['meta']
    assert 'config' not in meta
    assert meta['iter'] == 2


def test_every_kind_of_number_loads(tmp_path):
    arrays = [np.array([], float), *(np.array([0, 1, 3], code) for code in '?bhilqBHILQefdgFDG')]
    torch.save({'arrays': arrays, 'history': HistoryBuffer()}, tmp_path / 'a.pth')
    for loaded, saved in zip(
        load_checkpoint_file(tmp_path / 'a.pth')['arrays'], arrays, strict=True
    ):
        np.testing.assert_array_equal(loaded, saved)
        assert (type(loaded), loaded.dtype) == (np.ndarray, saved.dtype)


@pytest.mark.parametrize(
    'values',
    [np.array([None, {}]), np.array(['text']), np.array([b'x']), np.zeros(1, 'f8,i4'),
     np.array(['2020'], 'M8[D]'), np.str_('text'), np.array([1.5], '>f8')[:0].astype('S3')],
    ids=lambda values: str(values.dtype),
)  # fmt: skip
def test_other_arrays_are_refused(tmp_path, values):
    torch.save({'a': values}, tmp_path / 'a.pth')
    with pytest.raises(InputError, match=r'refused: it needs numpy\.dtype'):
        load_checkpoint_file(tmp_path / 'a.pth')


@pytest.mark.parametrize(
    'make',
    [
        (np.dtype, 'O'),  # these carry no state, which torch would have looked at
        (np.dtype, 'f8,O'),
        (np.dtype, '(2,)f8'),
        (np.dtype, '>f8'),
        (np.ndarray, (1,), 'O'),
        (np.ndarray, (1,), 'O', b'8 bytes!'),  # would be taken for the address of an object
        (np.ndarray, (9,)),
        (RECONSTRUCT, HistoryBuffer, (0,), b'b'),
    ],
    ids=str,
)
def test_numpys_makers_make_nothing_else(tmp_path, make):
    torch.save({'a': Calls(*make)}, tmp_path / 'a.pth')
    with pytest.raises(InputError, match='refused: it needs'):
        load_checkpoint_file(tmp_path / 'a.pth')


@pytest.mark.parametrize(
    'state',
    [
        (3, '<', None, None, None, 800, 8, 0),
        (3, '<', None, None, None, -1, -1, 1),  # "holds references to objects"
        (3, '<', (np.dtype('f4'), (100,)), None, None, -1, -1, 0),
        (3, '<', None, ('a',), {'a': (np.dtype('f4'), 800)}, 800, 8, 27),
    ],
)
def test_the_type_of_an_array_cannot_be_changed_under_it(tmp_path, state):
    class Changed:  # pickles as a dtype with the state of its own
        def __reduce__(self):
            return np.dtype, ('f8', False, True), state

    class Array:
        def __reduce__(self):
            make = (RECONSTRUCT, (np.ndarray, (0,), b'b'))
            return *make, (1, (2,), Changed(), False, np.array([1.5, 2.5]).tobytes())

    torch.save({'a': Array()}, tmp_path / 'a.pth')
    array = load_checkpoint_file(tmp_path / 'a.pth')['a']
    assert array.tolist() == [1.5, 2.5]
    for dtype in (array.dtype, np.dtype('f8')):
        assert (dtype.itemsize, dtype.hasobject, dtype.subdtype, dtype.fields) == (8, 0, None, None)


@pytest.mark.parametrize('strategy', ['cos', 'linear'])
def test_both_annealing_functions_come_back(tmp_path, strategy):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    scheduler = OneCycleLR(optimizer, eta_max=0.1, total_steps=9, anneal_strategy=strategy)
    torch.save(scheduler.state_dict(), tmp_path / 'a.pth')
    anneal = load_checkpoint_file(tmp_path / 'a.pth')['anneal_func']
    assert anneal is getattr(OneCycleParamScheduler, f'_annealing_{strategy}')


def test_names_of_numpy_1_load_under_numpy_2_and_back(tmp_path):
    path = tmp_path / 'old.pth'
    content = {'a': np.arange(3.0), 'b': np.float32(1.5)}
    torch.save(content, path, _use_new_zipfile_serialization=False)
    raw = path.read_bytes().replace(b'cnumpy._core.', b'cnumpy.core.')
    for name in (b'cnumpy.core.', b'cnumpy._core.'):
        path.write_bytes(raw.replace(b'cnumpy.core.', name))
        loaded = load_checkpoint_file(path)
        assert loaded['a'].tolist() == [0, 1, 2]
        assert loaded['b'] == np.float32(1.5)


@pytest.mark.parametrize(
    'payload',
    [
        Calls(getattr, HistoryBuffer, '__init__'),
        Calls(getattr, HistoryBuffer, '__subclasses__'),
        Calls(getattr, HistoryBuffer, 'register_statistics'),
        Calls(getattr, Calls(getattr, HistoryBuffer, 'mean'), '__globals__'),
        Calls(getattr, OneCycleParamScheduler, '__init__'),
        Calls(getattr, OneCycleParamScheduler, 'mean'),
        Calls(getattr, HistoryBuffer, '_annealing_cos'),
        Calls(getattr, np.ndarray, 'tofile'),
        Calls(getattr, 'text', 'format'),
        Calls(getattr, getattr, '__self__'),
        Calls(getattr, HistoryBuffer, 'mean', None),
        Calls(getattr, OrderedDict, 'fromkeys'),
        Calls(OneCycleParamScheduler, 'optimizer', 'lr'),
        Calls(eval, '1'),
        Calls(exec, '1'),
        Calls(__import__, 'os'),
        Calls(np.load, 'file', None, True),
    ],
    ids=lambda payload: payload.call[0].__name__,
)
@pytest.mark.parametrize('zipped', [True, False])
def test_nothing_else_is_reached_by_way_of_the_list(payload, zipped, tmp_path):
    torch.save(
        {'state_dict': payload}, tmp_path / 'evil.pth', _use_new_zipfile_serialization=zipped
    )
    with pytest.raises(
        InputError, match='refused: it needs .*, which is not on the list of what MMEngine saves'
    ) as caught:
        load_checkpoint_file(tmp_path / 'evil.pth')
    assert '\n' not in str(caught.value)


def test_a_file_cannot_replace_the_statistics_of_the_class(tmp_path):
    buffer = HistoryBuffer([1.0, 3.0], [1, 1])
    HistoryBuffer._statistics_methods['mean'] = HistoryBuffer.max
    try:
        torch.save({'history': buffer}, tmp_path / 'a.pth')
    finally:
        HistoryBuffer._statistics_methods['mean'] = HistoryBuffer.mean
    assert load_checkpoint_file(tmp_path / 'a.pth')['history'].statistics('mean') == 2


@pytest.mark.parametrize('zipped', [True, False])
@pytest.mark.parametrize('keep', [0.0, 0.5, 0.95])
def test_a_truncated_file_is_called_truncated(tmp_path, zipped, keep):
    path = tmp_path / 'cut.pth'
    torch.save({'a': torch.rand(1000)}, path, _use_new_zipfile_serialization=zipped)
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * keep)])
    with pytest.raises(InputError, match=r'cut\.pth: truncated') as caught:
        load_checkpoint_file(path)
    assert '\n' not in str(caught.value)


def test_what_is_no_checkpoint_says_so(tmp_path):
    with pytest.raises(MissingFileError, match='gone.pth'):
        load_checkpoint_file(tmp_path / 'gone.pth')
    with pytest.raises(InputError, match='is a folder'):
        load_checkpoint_file(tmp_path)
    (tmp_path / 'note.pth').write_text('<html>404 Not Found</html>\n')
    with pytest.raises(InputError, match=r'note\.pth: not a checkpoint'):
        load_checkpoint_file(tmp_path / 'note.pth')


def test_safetensors_load_and_a_broken_one_is_named(tmp_path):
    path = tmp_path / 'a.safetensors'
    safetensors.torch.save_file({'w': torch.arange(3.0)}, path)
    assert load_checkpoint_file(path)['w'].tolist() == [0, 1, 2]
    assert CheckpointLoader.load_checkpoint(str(path))['w'].tolist() == [0, 1, 2]
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(InputError, match=r'a\.safetensors: truncated'):
        load_checkpoint_file(path)


@pytest.mark.parametrize('switch', [None, 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'])
def test_a_scheme_that_asks_for_the_unsafe_way_gets_the_safe_one(tmp_path, monkeypatch, switch):
    monkeypatch.setattr(CheckpointLoader, '_schemes', dict(CheckpointLoader._schemes))
    if switch:
        monkeypatch.setenv(switch, '1')

    def load_from_elsewhere(filename, map_location=None):
        return torch.load(tmp_path / filename[9:], map_location, weights_only=False)

    CheckpointLoader.register_scheme('unsafe://', load_from_elsewhere)
    before = dict(os.environ)
    torch.save({'a': 1}, tmp_path / 'good.pth')
    assert CheckpointLoader.load_checkpoint('unsafe://good.pth') == {'a': 1}
    torch.save({'a': Calls(os.system, f'touch {tmp_path}/made')}, tmp_path / 'evil.pth')
    with pytest.raises(InputError, match='unsafe://evil.pth: refused'):
        CheckpointLoader.load_checkpoint('unsafe://evil.pth')
    assert not (tmp_path / 'made').exists()
    assert dict(os.environ) == before


@pytest.mark.parametrize(
    'error',
    [
        MemoryError(),
        PermissionError(13, 'Permission denied'),
        RuntimeError('Attempting to deserialize object on a CUDA device but torch.cuda.is_av...'),
    ],
)
def test_what_this_machine_lacks_is_not_blamed_on_the_file(tmp_path, monkeypatch, error):
    def load(*args, **kwargs):
        raise error

    path = tmp_path / 'a.pth'
    torch.save({'a': 1}, path)
    monkeypatch.setattr(torch, 'load', load)
    for read in (load_checkpoint_file, CheckpointLoader.load_checkpoint):
        with pytest.raises(type(error)) as caught:
            read(str(path))
        assert caught.value is error


def test_failed_downloads_are_one_line_with_the_address(serve, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, '_hub_dir', str(tmp_path / 'hub'))
    torch.save({'a': torch.rand(1000)}, tmp_path / 'good.pth')
    for zipped in (True, False):
        path = tmp_path / f'cut{zipped}.pth'
        torch.save({'a': torch.rand(1000)}, path, _use_new_zipfile_serialization=zipped)
        path.write_bytes(path.read_bytes()[:600])
    url = serve(tmp_path)
    assert CheckpointLoader.load_checkpoint(f'{url}/good.pth')['a'].shape == (1000,)
    for name, says in (
        ('gone.pth', 'gone.pth: the server answers 404'),
        ('cutTrue.pth', 'cutTrue.pth: truncated .* delete the file .*/hub/checkpoints'),
        ('cutFalse.pth', 'cutFalse.pth: truncated .* delete the file .*/hub/checkpoints'),
    ):
        with pytest.raises(InputError, match=f'{url}/{says}') as caught:
            CheckpointLoader.load_checkpoint(f'{url}/{name}')
        assert '\n' not in str(caught.value)
    with pytest.raises(InputError, match=r'127\.0\.0\.1:9/a\.pth: cannot be downloaded'):
        CheckpointLoader.load_checkpoint('http://127.0.0.1:9/a.pth')


def rewrite(path, change, compression=zipfile.ZIP_STORED):
    """Write the archive of a checkpoint again, its pickle changed."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, 'w', compression) as archive:
        for name, data in parts.items():
            archive.writestr(name, change(data) if name.endswith('data.pkl') else data)


@pytest.mark.parametrize(
    ('change', 'says'),
    [
        # The number of values of the storage, and of the tensor: 100 million instead of 1000.
        (
            lambda data: data.replace(b'M\xe8\x03', b'J\x00\xe1\xf5\x05'),
            'more bytes than the file|does not match expected size',  # newer torch looks, too
        ),
        (lambda data: b'\x80\x02' + b']' * 10**5 + b'a' * (10**5 - 1) + b'.', 'a list, not a dict'),
        (
            lambda data: b'\x80\x02}X\x01\x00\x00\x00a' + b']' * 10**5 + b'a' * (10**5 - 1) + b's.',
            'is nested more than 100 levels deep',
        ),
    ],
    ids=['claims', 'deep list', 'deep value'],
)
def test_a_file_cannot_claim_more_than_it_is(change, says, tmp_path):
    path = tmp_path / 'a.pth'
    torch.save({'a': torch.rand(1000)}, path)
    rewrite(path, change)
    with pytest.raises(InputError, match=says) as caught:
        load_checkpoint_file(path)
    assert len(str(caught.value)) < 500


def test_an_archive_that_unpacks_to_gigabytes_is_refused_before(tmp_path):
    path = tmp_path / 'bomb.pth'
    torch.save({'a': torch.zeros(5_000_000)}, path)
    rewrite(path, lambda data: data, zipfile.ZIP_DEFLATED)
    with pytest.raises(InputError, match=r'bytes that would unpack to 20\d{6}'):
        load_checkpoint_file(path)
