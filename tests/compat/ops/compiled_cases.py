"""Calls of mmcv's operators whose results a compiled mmcv has written down.

A compiled mmcv takes 20 minutes to build, so that its answers are kept as numbers beside this
file. Where it is installed, ``python tests/compat/ops/compiled_cases.py`` writes them again.
"""

from collections.abc import Callable
from pathlib import Path

import mmcv.ops
import numpy as np
import torch

ANSWERS = Path(__file__).with_name('compiled_answers.npz')
Case = Callable[[np.random.RandomState], list[torch.Tensor]]
CASES: dict[str, Case] = {}


def case(name: str) -> Callable[[Case], Case]:
    def add(function: Case) -> Case:
        CASES[name] = function
        return function

    return add


def inputs(name: str) -> np.random.RandomState:
    """Return the case's own random numbers; numpy keeps this generator's stream for good."""
    return np.random.RandomState(sum(name.encode()))


def normal(rng: np.random.RandomState, *shape: int) -> torch.Tensor:
    return torch.from_numpy(rng.standard_normal(shape)).float()


def crowded_boxes(rng: np.random.RandomState, count: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    """Return boxes, (N, 4), of which each overlaps many, and scores, (N,), all different."""
    low = rng.uniform(0, 40, (count, 2))
    boxes = np.concatenate((low, low + rng.uniform(4, 40, (count, 2))), axis=1)
    scores = (rng.permutation(count) + 1) / (count + 1)
    return torch.from_numpy(boxes).float(), torch.from_numpy(scores).float()


def with_gradients(
    function: Callable[..., torch.Tensor], rng: np.random.RandomState, *tensors: torch.Tensor
) -> list[torch.Tensor]:
    """Return the output and the gradient of each tensor, for a random gradient of the output."""
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    output = function(*leaves)
    output.backward(normal(rng, *output.shape))
    return [output.detach(), *(leaf.grad for leaf in leaves)]


for _threshold in (0.3, 0.6):
    for _offset in (0, 1):

        @case(f'nms, threshold {_threshold}, offset {_offset}')
        def _nms(rng, threshold=_threshold, offset=_offset):
            boxes, scores = crowded_boxes(rng)
            return list(mmcv.ops.nms(boxes, scores, threshold, offset=offset))


@case('nms, scores above 0.4, at most 5')
def _nms_limited(rng):
    return list(mmcv.ops.nms(*crowded_boxes(rng), 0.5, score_threshold=0.4, max_num=5))


for _agnostic in (True, False):

    @case(f'batched_nms, class_agnostic {_agnostic}')
    def _batched_nms(rng, agnostic=_agnostic):
        boxes, scores = crowded_boxes(rng)
        labels = torch.from_numpy(rng.randint(3, size=len(boxes)))
        cfg = dict(type='nms', iou_threshold=0.5)
        return list(mmcv.ops.batched_nms(boxes, scores, labels, cfg, class_agnostic=agnostic))


for _method in ('naive', 'linear', 'gaussian'):
    for _offset in (0, 1):

        @case(f'soft_nms, {_method}, offset {_offset}')
        def _soft_nms(rng, method=_method, offset=_offset):
            boxes, scores = crowded_boxes(rng)
            return list(mmcv.ops.soft_nms(boxes, scores, 0.3, 0.5, 0.05, method, offset))


@case('nms_match')
def _nms_match(rng):
    boxes, scores = crowded_boxes(rng)
    groups = mmcv.ops.nms_match(torch.cat((boxes, scores[:, None]), 1), 0.4)
    # The order of what a box drops is nobody's promise; who drops it is.
    return [torch.cat((group[:1], group[1:].sort()[0])) for group in groups]


for _mode in ('iou', 'iof'):
    for _offset in (0, 1):
        for _aligned in (True, False):

            @case(f'bbox_overlaps, {_mode}, offset {_offset}, aligned {_aligned}')
            def _bbox_overlaps(rng, mode=_mode, offset=_offset, aligned=_aligned):
                first, _ = crowded_boxes(rng, 8)
                second, _ = crowded_boxes(rng, 8 if aligned else 5)
                return [mmcv.ops.bbox_overlaps(first, second, mode, aligned, offset)]


def regions(rng: np.random.RandomState) -> torch.Tensor:
    """Return regions, (7, 5): inside, over each border, thinner than a bin, and outside."""
    low = rng.uniform(-6, 24, (5, 2))
    boxes = np.concatenate((low, low + rng.uniform(0.2, 24, (5, 2))), axis=1)
    boxes = np.concatenate((boxes, [[10, 10, 10, 10], [80, 80, 90, 90]]))
    return torch.from_numpy(np.concatenate((rng.randint(2, size=(7, 1)), boxes), 1)).float()


for _mode in ('avg', 'max'):
    for _ratio in (0, 2):
        for _aligned in (True, False):

            @case(f'roi_align, {_mode}, sampling ratio {_ratio}, aligned {_aligned}')
            def _roi_align(rng, mode=_mode, ratio=_ratio, aligned=_aligned):
                rois = regions(rng)
                if mode == 'max' and ratio == 0 and aligned:
                    # A region without area has no samples: the compiled operator leaves its start
                    # value, -10000, in the output, where test_ops_rois.py asks for 0.
                    rois = rois[rois[:, 3] > rois[:, 1]]
                return with_gradients(
                    lambda x: mmcv.ops.roi_align(x, rois, (3, 2), 0.5, ratio, mode, aligned),
                    rng,
                    normal(rng, 2, 2, 12, 14),
                )


# stride, padding, dilation, groups, deformable groups
GEOMETRIES = {
    'plain': (1, 1, 1, 1, 1),
    'strided and dilated': ((2, 1), (1, 2), (1, 2), 1, 1),
    'grouped': (1, 1, 1, 2, 2),
}


def deformable(rng: np.random.RandomState, geometry: tuple) -> tuple[torch.Tensor, ...]:
    """Return input, (2, 4, 6, 7), offset, mask in (0, 1), weight and bias, for a 3x3 kernel."""
    stride, padding, dilation, groups, deform_groups = geometry
    x, weight, bias = normal(rng, 2, 4, 6, 7), normal(rng, 4, 4 // groups, 3, 3), normal(rng, 4)
    plain = torch.nn.functional.conv2d(x, weight, None, stride, padding, dilation, groups)
    shape = plain.shape[-2:]
    offset, mask = (
        normal(rng, 2, deform_groups * 18, *shape),
        normal(rng, 2, deform_groups * 9, *shape),
    )
    return x, offset, mask.sigmoid(), weight, bias


for _name, _geometry in GEOMETRIES.items():

    @case(f'deform_conv2d, {_name}')
    def _deform_conv(rng, geometry=_geometry):
        x, offset, _, weight, _ = deformable(rng, geometry)
        return with_gradients(
            lambda *t: mmcv.ops.deform_conv2d(*t, *geometry), rng, x, offset, weight
        )

    @case(f'modulated_deform_conv2d, {_name}')
    def _modulated_deform_conv(rng, geometry=_geometry):
        tensors = deformable(rng, geometry)
        return with_gradients(
            lambda *t: mmcv.ops.modulated_deform_conv2d(*t, *geometry), rng, *tensors
        )


def write_answers() -> None:
    import mmcv._ext

    if not getattr(mmcv._ext, '__file__', None):
        raise SystemExit('mmcv is not compiled here: there is nothing to write down')
    answers = {
        f'{name}: {number}': tensor.numpy()
        for name, call in CASES.items()
        for number, tensor in enumerate(call(inputs(name)))
    }
    np.savez_compressed(ANSWERS, **answers)


if __name__ == '__main__':
    write_answers()
