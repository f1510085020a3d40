"""Which operators a model spends its time in, by ``torch.profiler``."""

import os
from collections.abc import Mapping

# The profiler's library writes to stderr that it starts, stops and finds no GPU.
os.environ.setdefault('KINETO_LOG_LEVEL', '99')

import torch
from torch.profiler import ProfilerActivity, profile

from .timing import Row, Workload

LARGEST = 10
_STEPS = 3
# Parts of the names of torch's operators: convolution_backward, cudnn_convolution,
# mkldnn_convolution, _conv_depthwise2d, thnn_conv2d, slow_conv2d_forward, ...
_CONVOLUTION = ('convolution', 'conv2d', 'conv_depthwise')


def operator_seconds(workload: Workload, steps: int = _STEPS) -> dict[str, float]:
    """Return the seconds a step that each operator takes itself, without those it calls.

    Args:
        workload: What is profiled, after a step to warm up; on a GPU the times are those of its
            kernels.
        steps: Over which the mean is taken.
    """
    workload.before()
    workload.step()
    on_gpu = workload.device_type == 'cuda'
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_gpu
    with profile(activities=activities, acc_events=True) as profiler:
        for _ in range(steps):
            workload.step()
        if on_gpu:
            torch.cuda.synchronize()
    # A kernel is listed by itself as well as under the operator that started it.
    events = (e for e in profiler.key_averages() if e.device_type == torch.autograd.DeviceType.CPU)
    times = {e.key: e.self_device_time_total if on_gpu else e.self_cpu_time_total for e in events}
    return {key: time / 1e6 / steps for key, time in times.items() if time > 0}  # from us


def profile_rows(model: str, workloads: Mapping[str, Workload]) -> list[Row]:
    """Profile the workloads of a model.

    Returns:
        For each workload a row for all convolutions, one for all others, and one for each of the
        largest others: ``share`` of the operators' time, and ``milliseconds`` per image.
    """
    rows = []
    for name, workload in workloads.items():
        seconds = operator_seconds(workload)
        total = sum(seconds.values())
        others = {
            operator: spent / total
            for operator, spent in seconds.items()
            if not any(part in operator for part in _CONVOLUTION)
        }
        rest = sum(others.values())
        largest = sorted(others.items(), key=lambda item: -item[1])[:LARGEST]
        for operator, share in [('all convolutions', 1 - rest), ('all others', rest), *largest]:
            milliseconds = 1000 * share * total / workload.images
            rows.append(
                dict(model=model, task=name, operator=operator, share=share)
                | dict(milliseconds=milliseconds)
            )
    return rows
