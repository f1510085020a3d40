"""How a measurement runs: device, precision, layout, batch, rounds."""

import contextlib
from dataclasses import dataclass

import torch

from ..errors import InputError

PRECISIONS = {'fp32': torch.float32, 'fp16': torch.float16, 'bf16': torch.bfloat16}


@dataclass(frozen=True)
class Settings:
    """What all models of a run have in common.

    Attributes:
        device: Where the models run.
        precision: A key of ``PRECISIONS``; but for fp32 by autocast, weights staying in fp32.
        channels_last: Layout of weights and images.
        compile: Whether the models run under ``torch.compile``.
        batch_size: Images a step.
        rounds: Measurements of each model.
        min_seconds: For which each measurement repeats its step at least.
        fuse: Whether models that fold infer with their norms folded into the convolutions.

    Raises:
        InputError: If the device is not available or cannot train in that precision.
    """

    device: torch.device
    precision: str = 'fp32'
    channels_last: bool = True
    compile: bool = False
    batch_size: int = 8
    rounds: int = 7
    min_seconds: float = 0.5
    fuse: bool = True

    def __post_init__(self) -> None:
        if self.device.type == 'cuda' and not torch.cuda.is_available():
            raise InputError('--device cuda: no CUDA device is visible')
        if self.device.type == 'cuda' and (self.device.index or 0) >= torch.cuda.device_count():
            raise InputError(
                f'--device {self.device}: {torch.cuda.device_count()} CUDA devices are visible'
            )
        if self.device.type not in ('cpu', 'cuda'):
            raise InputError(f'--device {self.device}: cpu and cuda are what can be measured')
        if self.precision == 'fp16' and self.device.type == 'cpu':
            raise InputError('--precision fp16 does not train on a CPU: use bf16')

    @property
    def warning(self) -> str | None:
        """A line where the CPU has no hardware for the precision; None elsewhere."""
        read = getattr(torch.cpu, 'get_capabilities', dict)  # not every torch says
        known: dict = read() if self.device.type == 'cpu' and self.precision != 'fp32' else {}
        if known.get('architecture') != 'x86_64' or known['avx512_bf16'] or known['amx_bf16']:
            return None
        return (
            f'warning: this CPU has no hardware for {self.precision}, which takes several times as '
            'long as fp32 here: give --precision fp32'
        )

    @property
    def memory_format(self) -> torch.memory_format:
        """The layout, as torch names it."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    @property
    def layout(self) -> str:
        """The layout, as the command line names it."""
        return 'channels_last' if self.channels_last else 'contiguous'


def autocast(device_type: str, precision: str) -> contextlib.AbstractContextManager:
    """Return the context in which models run in that precision."""
    if precision == 'fp32':
        return contextlib.nullcontext()
    return torch.autocast(device_type, PRECISIONS[precision])
