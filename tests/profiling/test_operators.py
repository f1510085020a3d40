import pytest
import torch
from torch import nn

from tresnet_det.profiling import operators
from tresnet_det.profiling.timing import Task


def test_shares_by_hand():
    seconds = {'aten::mkldnn_convolution': 6.0, 'aten::add_': 3.0, 'aten::mul': 1.0}
    share, others = operators.split_convolutions(seconds, largest=1)
    assert share == pytest.approx(0.6)
    assert others == [('aten::add_', pytest.approx(0.3))]


@pytest.mark.parametrize(
    ('name', 'expected'),
    [
        ('aten::convolution_backward', True),
        ('aten::cudnn_convolution', True),
        ('aten::_conv_depthwise2d', True),
        ('aten::thnn_conv2d', True),
        ('aten::native_batch_norm', False),
        ('aten::copy_', False),
    ],
)
def test_convolutions_are_known_by_their_names(name, expected):
    assert operators.is_convolution(name) is expected


def test_a_model_of_one_convolution_spends_its_time_there():
    model, x = nn.Conv2d(16, 16, 3), torch.rand(4, 16, 64, 64)
    rows = operators.profile_rows(
        {'conv': lambda: {'inference': Task(lambda: model(x), 4)}}, lambda line: None
    )
    assert rows[0]['operator'] == 'all convolutions'
    assert rows[0]['share'] > 0.5
    assert rows[0]['share'] + rows[1]['share'] == pytest.approx(1)
    assert rows[0]['milliseconds'] > 0
