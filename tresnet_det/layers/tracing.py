"""Whether a graph is being traced, where custom autograd functions have to step aside."""

import torch


def is_tracing() -> bool:
    """Tell whether ``torch.compile``, ``torch.export`` or the ONNX exporter is at work.

    The compiler decides by itself what to keep for backward, and exporters know standard operators
    only, so the layers then use the plain operators instead of their memory-saving functions.
    """
    return (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()  # the TorchScript-based ONNX exporter
        or torch.onnx.is_in_onnx_export()
    )
