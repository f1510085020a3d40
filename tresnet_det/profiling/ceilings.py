"""What a device can do at most: the speed of a copy and of a matrix product in bf16."""

import torch

from .timing import Row, Workload, images_per_second


def measure_ceilings(device: torch.device, tiny: bool = False) -> Row:
    """Return ``copy_gb_per_s``, reading and writing counted, and ``tflops`` of a matrix product.

    Args:
        device: What is measured, in a second.
        tiny: Small tensors, for a CPU.
    """
    values, side = (2**20, 256) if tiny else (2**28, 8192)
    x = torch.ones(values, dtype=torch.bfloat16, device=device)
    y = torch.empty_like(x)
    a = torch.rand(side, side, device=device).to(torch.bfloat16)
    product = torch.empty_like(a)
    seconds = 0.0 if tiny else 0.3
    copies, products = (
        images_per_second(Workload(step, 1, device.type), seconds)
        for step in (lambda: y.copy_(x), lambda: torch.mm(a, a, out=product))
    )
    return {
        'copy_gb_per_s': 2 * x.nbytes * copies / 1e9,
        'tflops': 2 * side**3 * products / 1e12,
    }
