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


def test_a_batch_that_runs_out_of_memory_does_not_fit_and_other_errors_come_through(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'synchronize', lambda: None)
    emptied = []
    monkeypatch.setattr(torch.cuda, 'empty_cache', lambda: emptied.append(True))

    def train_at(batch):
        if batch > 40:
            raise torch.cuda.OutOfMemoryError

    assert memory.largest_training_batch(train_at) == 40
    assert len(emptied) == 6  # 8, 16, 32, 64, 48, 40

    def broken(batch):
        raise RuntimeError('a bug')

    with pytest.raises(RuntimeError, match='a bug'):
        memory.largest_training_batch(broken)
