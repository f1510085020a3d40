"""The Triton kernels: checked in Triton's interpreter or on a GPU, and compiled for one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tresnet_det.layers import InPlaceABN, triton_kernels

CHECKS = Path(__file__).with_name('triton_checks.py')
POINTERS = {torch.float32: '*fp32', torch.float16: '*fp16', torch.bfloat16: '*bf16'}


def run_checks(interpreted):
    pytest.importorskip('triton')
    environment = {k: v for k, v in os.environ.items() if k != 'TRITON_INTERPRET'}
    if interpreted:
        environment['TRITON_INTERPRET'] = '1'
    command = [sys.executable, '-m', 'pytest', '-x', '-p', 'no:cacheprovider', str(CHECKS)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]


# Triton reads the variable once in a process, and other tests here use Triton without it.
@pytest.mark.slow  # the kernels are experimental
def test_the_kernels_compute_what_they_should_in_tritons_interpreter():
    run_checks(interpreted=True)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_the_kernels_compute_what_they_should_on_a_gpu():
    run_checks(interpreted=False)


@pytest.fixture
def compiled(monkeypatch, tmp_path):
    """Compile for an H100 what would be launched; the fixture's value lists kernel and PTX.

    The signature is that of the launch, so the sizes of the tiles are compiled as they are chosen.
    """
    triton = pytest.importorskip('triton')
    compiler = pytest.importorskip('triton.compiler')
    targets = pytest.importorskip('triton.backends.compiler')
    if not isinstance(triton.language.sum, triton.JITFunction):
        pytest.skip("Triton's interpreter does not compile: unset TRITON_INTERPRET")
    monkeypatch.setenv('TRITON_CACHE_DIR', str(tmp_path))
    target = targets.GPUTarget('cuda', 90, 32)
    done = []

    def run(self, *arguments, grid, warmup, **options):
        signature, constants, attributes = {}, {}, {}
        for i, (parameter, value) in enumerate(zip(self.params, arguments, strict=True)):
            if parameter.is_constexpr or value is None:
                signature[parameter.name] = 'constexpr'
                constants[parameter.name] = value
            elif torch.is_tensor(value):
                signature[parameter.name] = POINTERS[value.dtype]
                attributes[(i,)] = [['tt.divisibility', 16]]  # what torch allocates is aligned
            else:
                signature[parameter.name] = 'fp32' if isinstance(value, float) else 'i32'
        source = compiler.ASTSource(self, signature, constants, attributes)
        assembly = triton.compile(source, target=target, options=options).asm
        assert len(assembly['cubin']) > 0
        done.append((self.fn.__name__, assembly['ptx']))

    monkeypatch.setattr(triton.JITFunction, 'run', run)
    return done


def launch_every_kernel(x, slope):
    from tresnet_det.layers.triton_blur import blur_pool
    from tresnet_det.layers.triton_gate import gate_product
    from tresnet_det.layers.triton_norm import inplace_abn

    figures = [torch.ones(x.shape[1]) for _ in range(4)]
    gate = torch.zeros(*x.shape[:2], 1, 1, dtype=x.dtype)
    for y in (
        inplace_abn(x, *figures, True, 0.1, 1e-5, slope)[0],
        blur_pool(x),
        gate_product(x, gate),
    ):
        y.backward(torch.zeros_like(y))


@pytest.mark.slow
@pytest.mark.parametrize('last', [False, True], ids=['contiguous', 'channels_last'])
@pytest.mark.parametrize('dtype', list(POINTERS))
@pytest.mark.parametrize('slope', [0.01, 1.0])
def test_every_kernel_compiles_for_a_gpu_and_moves_16_bytes_at_a_time(dtype, last, slope, compiled):
    layout = torch.channels_last if last else torch.contiguous_format
    x = torch.zeros(16, 64, 8, 32, dtype=dtype).to(memory_format=layout).requires_grad_()
    launch_every_kernel(x, slope)
    kernels = dict(compiled)
    assert len(kernels) == len(compiled) == 9
    assert 'v4.b32' in kernels['normalize_kernel']


def test_a_cpu_tensor_goes_to_torchs_kernels_without_the_interpreter(monkeypatch):
    pytest.importorskip('triton')
    monkeypatch.setattr(triton_kernels, '_mode', lambda: 'gpu')
    x = torch.randn(2, 4, 5, 6)
    assert not triton_kernels.is_available(x)
    assert torch.equal(InPlaceABN(4, backend='triton')(x), InPlaceABN(4)(x))
