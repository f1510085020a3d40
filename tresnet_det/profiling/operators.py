"""Which operators a model spends its time in, by ``torch.profiler``."""

import os
from collections.abc import Callable, Mapping
from typing import Any

# The profiler's library writes to stderr that it starts, stops and finds no GPU.
os.environ.setdefault('KINETO_LOG_LEVEL', '99')

import torch
from torch.profiler import ProfilerActivity, profile

from .timing import Task

LARGEST = 10
_STEPS = 3
# Of the names of torch's operators: convolution, convolution_backward, cudnn_convolution,
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


def split_convolutions(
    seconds: Mapping[str, float], largest: int = LARGEST
) -> tuple[float, list[tuple[str, float]]]:
    """Return the share of the convolutions, and the largest other operators with their shares.

    Args:
        seconds: By operator.
        largest: How many of the others are listed.
    """
    total = sum(seconds.values())
    others = {k: s / total for k, s in seconds.items() if not is_convolution(k)}
    by_size = sorted(others.items(), key=lambda item: -item[1])
    return 1 - sum(others.values()), by_size[:largest]


def is_convolution(operator: str) -> bool:
    """Tell whether an operator's name is that of a convolution, forward or backward."""
    return any(part in operator for part in _CONVOLUTION)


def profile_rows(
    tasks_of: Mapping[str, Callable[[], Mapping[str, Task]]], progress: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Profile the tasks of each model.

    Args:
        tasks_of: Builds the tasks of a model, by its name; one model is there at a time.
        progress: Told what is going on.

    Returns:
        For each model and task a row for all convolutions and one for each of the largest other
        operators: ``share`` of the operators' time, and ``milliseconds`` an image.
    """
    rows = []
    for model, build in tasks_of.items():
        progress(f'profiling {model}')
        for name, task in build().items():
            seconds = operator_seconds(task)
            share, others = split_convolutions(seconds)
            per_image = 1000 * sum(seconds.values()) / task.images
            for operator, part in [
                ('all convolutions', share),
                ('all others', 1 - share),
                *others,
            ]:
                rows.append(
                    {
                        'model': model,
                        'task': name,
                        'operator': operator,
                        'share': part,
                        'milliseconds': part * per_image,
                    }
                )
    return rows
