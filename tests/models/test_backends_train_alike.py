"""Whatever computes the norms, a training gives the same losses.

``TRITON_INTERPRET=1 python tests/models/test_backends_train_alike.py triton`` prints one as JSON.
"""

import functools
import importlib.util
import json
import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tresnet_det import TResNet
from tresnet_det.layers import InPlaceABN
from tresnet_det.models.norms import iterate_norms

ITERATIONS = 20
CLASSES = 5


def train(norm_cfg, least_weight=None):
    """Losses of SGD on random images from the initialisation of this seed.

    Args:
        norm_cfg: Of the backbone.
        least_weight: Draw the norms' weights from here to 1 instead; batch norms then start at the
            scales that these weights give an In-Place ABN.
    """
    torch.manual_seed(0)
    arch = dict(depths=(1, 1, 1, 1), width_factor=0.125)
    backbone = TResNet(arch=arch, out_indices=(3,), norm_cfg=norm_cfg)
    classifier = nn.Linear(backbone.out_channels[-1], CLASSES)
    if least_weight is not None:
        for norm in iterate_norms(backbone):
            nn.init.uniform_(norm.weight, least_weight, 1)
            if not isinstance(norm, InPlaceABN):
                norm.weight.data += norm.eps
    parameters = [*backbone.parameters(), *classifier.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.01)
    losses = []
    for _ in range(ITERATIONS):
        images, labels = torch.rand(8, 3, 32, 32), torch.randint(CLASSES, (8,))
        loss = F.cross_entropy(classifier(backbone(images)[-1].mean((2, 3))), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@functools.cache
def reference():
    return train(dict(type='InPlaceABN', backend='torch'))


@pytest.mark.slow  # the interpreter
def test_triton_gives_the_losses_of_torch():
    pytest.importorskip('triton')
    done = subprocess.run(
        [sys.executable, __file__, 'triton'],
        env={**os.environ, 'TRITON_INTERPRET': '1'},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    # Not to the last bit: then other kernels would have run than torch's.
    losses = json.loads(done.stdout)
    assert losses != reference()
    assert losses == pytest.approx(reference(), abs=1e-4)


@pytest.mark.skipif(
    importlib.util.find_spec('inplace_abn') is None,
    reason='the package inplace-abn is not installed',
)
def test_the_package_gives_the_losses_of_torch():
    losses = train(dict(type='InPlaceABN', backend='inplace_abn'))
    assert losses != reference()
    assert losses == pytest.approx(reference(), abs=1e-4)


def test_batch_norm_from_the_same_scales_gives_the_same_losses():
    # In float64: 20 steps amplify the last bits of float32 to 1e-2 of the loss.
    torch.set_default_dtype(torch.float64)
    try:
        ours = train(dict(type='InPlaceABN'), least_weight=0.5)
        theirs = train(dict(type='BN'), least_weight=0.5)
    finally:
        torch.set_default_dtype(torch.float32)
    assert theirs == pytest.approx(ours, abs=1e-9)


if __name__ == '__main__':
    print(json.dumps(train(dict(type='InPlaceABN', backend=sys.argv[1]))))
