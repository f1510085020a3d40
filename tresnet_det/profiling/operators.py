"""Which operators a model spends its time in, by ``torch.profiler``."""

import os
from collections.abc import Mapping

# The profiler's library writes to stderr that it starts, stops and finds no GPU.
os.environ.setdefault('KINETO_LOG_LEVEL', '99')

import torch
from torch.profiler import ProfilerActivity, profile

from .timing import Row, Task

LARGEST = 10
_STEPS = 3
# Parts of the names of torch's operators: convolution_backward, cudnn_convolution,
# mkldnn_convolution, _conv_depthwise2d, thnn_conv2d, slow_conv2d_forward, ...
_CONVOLUTION = ('convolution', 'conv2d', 'conv_depthwise')


def operator_seconds(task: Task, steps: int = _STEPS) -> dict[str, float]:
    """Return the seconds a step that each operator takes itself, without those it calls.

    Args:
        task: What is profiled, after a step to warm up; on a GPU the times are those of its
            kernels.
        steps: Over which the mean is taken.
    """
    task.before()
    task.step()
    on_gpu = task.device_type == 'cuda'
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_gpu
    with profile(activities=activities, acc_events=True) as profiler:
        for _ in range(steps):
            task.step()
        if on_gpu:
            torch.cuda.synchronize()
    # A kernel is listed by itself as well as under the operator that started it.
    events = (e for e in profiler.key_averages() if e.device_type == torch.autograd.DeviceType.CPU)
    times = {e.key: e.self_device_time_total if on_gpu else e.self_cpu_time_total for e in events}
    return {key: time / 1e6 / steps for key, time in times.items() if time > 0}  # from us


def profile_rows(model: str, tasks: Mapping[str, Task]) -> list[Row]:
    """Profile the tasks of a model.

    Returns:
        For each task a row for all convolutions, one for all others, and one for each of the
        largest others: ``share`` of the operators' time, and ``milliseconds`` per image.
    """
    rows = []
    for name, task in tasks.items():
        seconds = operator_seconds(task)
        total = sum(seconds.values())
        others = {
            operator: spent / total
            for operator, spent in seconds.items()
            if not any(part in operator for part in _CONVOLUTION)
        }
        rest = sum(others.values())
        largest = sorted(others.items(), key=lambda item: -item[1])[:LARGEST]
        for operator, share in [('all convolutions', 1 - rest), ('all others', rest), *largest]:
            milliseconds = 1000 * share * total / task.images
            rows.append(
                dict(model=model, task=name, operator=operator, share=share)
                | dict(milliseconds=milliseconds)
            )
    return rows
