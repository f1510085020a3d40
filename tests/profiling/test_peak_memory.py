"""Peak memory, and the largest batch that fits."""

import pytest
import torch

from tresnet_det.profiling import memory


@pytest.mark.parametrize('most', [0, 7, 8, 15, 16, 100, 512, 1003])
def test_largest_batch_is_found_in_few_tries(most):
    tried = []

    def fits(batch):
        tried.append(batch)
        return batch <= most

    assert memory.largest_batch(fits) == most // 8 * 8
    assert memory.largest_batch(lambda batch: True, most=most) == most // 8 * 8
    assert len(tried) == len(set(tried)) <= 2 * most.bit_length() + 1
    assert all(batch % 8 == 0 for batch in tried)


def test_peak_memory_sees_a_tensor_that_is_gone_again():
    with memory.peak_memory(torch.device('cpu')) as peak:
        torch.ones(64 * 2**20 // 4).sum()
    if peak.bytes is None:
        pytest.skip('this system does not tell')
    assert 60 * 2**20 < peak.bytes < 90 * 2**20


def test_peak_memory_is_unknown_where_the_system_does_not_tell(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, '_CLEAR_REFS', tmp_path / 'missing' / 'clear_refs')
    with memory.peak_memory(torch.device('cpu')) as peak:
        pass
    assert peak.bytes is None


@pytest.fixture
def emptied(monkeypatch):
    """How often the GPU's cache was emptied, on a machine without one."""
    emptied = []
    monkeypatch.setattr(torch.cuda, 'synchronize', lambda: None)
    monkeypatch.setattr(torch.cuda, 'empty_cache', lambda: emptied.append(True))
    return emptied


@pytest.mark.parametrize(
    'error',
    [
        torch.cuda.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB'),
        RuntimeError('cuDNN error: CUDNN_STATUS_ALLOC_FAILED'),
        RuntimeError('CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)'),
        RuntimeError('GET was unable to find an engine to execute this computation'),
        RuntimeError('Expected canUse32BitIndexMath(input) to be true, but got false.'),
        RuntimeError('a bug'),
    ],
    ids=str,
)
def test_a_batch_that_runs_out_of_memory_does_not_fit_and_other_errors_come_through(error, emptied):
    def train_at(batch):
        assert not torch.backends.cudnn.benchmark
        if batch > 40:
            raise error

    if str(error) == 'a bug':
        with pytest.raises(RuntimeError, match='a bug'):
            memory.largest_training_batch(train_at)
    else:
        assert memory.largest_training_batch(train_at) == (40, 48)
        assert len(emptied) == 6  # 8, 16, 32, 64, 48, 40


def test_no_batch_is_tried_that_kernels_cannot_count_nor_one_after_the_time(emptied):
    tried = []
    most = memory.largest_countable(2**31 // 48 + 1)
    assert most == 47  # 48 images have 2**31 values, one more than an int32 holds
    assert memory.largest_training_batch(tried.append, most) == (40, None)
    assert max(tried) == 40
    assert memory.largest_training_batch(tried.append, seconds=-1) == (0, None)
