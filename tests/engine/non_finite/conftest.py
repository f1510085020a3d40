import pytest
from planted_steps import NAN, BadGradient


@pytest.fixture
def bad_gradient(toy):
    """A model whose gradient is ``value`` times what it should be on the batch of img_4.jpg."""

    class Model(toy):
        value = NAN

        def forward(self, inputs, data_samples=None, mode='loss'):
            losses = super().forward(inputs, data_samples, mode)
            if mode == 'loss' and 'img_4.jpg' in [s.img_path for s in data_samples]:
                losses['loss_cls'] = BadGradient.apply(losses['loss_cls'], self.value)
            return losses

    return Model
