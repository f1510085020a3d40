"""The share of time of each operator."""

import pytest

from tresnet_det.profiling import operators
from tresnet_det.profiling.timing import Workload


def test_shares_by_hand(monkeypatch):
    seconds = {
        'aten::convolution_backward': 4.0,
        'aten::_conv_depthwise2d': 1.0,
        'aten::thnn_conv2d': 1.0,
        'aten::add_': 3.0,
        'aten::native_batch_norm': 1.0,
    }
    monkeypatch.setattr(operators, 'operator_seconds', lambda workload: seconds)
    rows = operators.profile_rows('model', {'training': Workload(lambda: None, images=5)})
    found = [(row['operator'], row['share'], row['milliseconds']) for row in rows]
    assert found == [
        ('all convolutions', pytest.approx(0.6), pytest.approx(1200)),
        ('all others', pytest.approx(0.4), pytest.approx(800)),
        ('aten::add_', pytest.approx(0.3), pytest.approx(600)),
        ('aten::native_batch_norm', pytest.approx(0.1), pytest.approx(200)),
    ]
