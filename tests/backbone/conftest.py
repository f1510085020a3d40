"""timm's networks, the judges of ours."""

import pytest
import timm
from torch import nn


@pytest.fixture
def undrawn(monkeypatch):
    """No time for drawing weights where others are loaded."""
    for draw in ('kaiming_uniform_', 'kaiming_normal_'):
        monkeypatch.setattr(nn.init, draw, lambda tensor, *args, **kwargs: tensor)


@pytest.fixture(scope='session')
def timms():
    """``timms(ARCH)``: with random weights that keep the activations near 1, for 7 classes."""

    def build(arch):
        model = timm.create_model(f'tresnet_{arch}', num_classes=7).eval()
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.1)
                nn.init.normal_(module.running_mean, std=0.1)
                nn.init.uniform_(module.running_var, 0.5, 2)
        return model

    return build


@pytest.fixture(scope='session')
def timms_m(timms):
    return timms('m')
