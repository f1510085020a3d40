"""The operators of ``mmcv._ext`` in Python, by the names with which mmcv 2.1 calls them.

mmcv's own autograd functions allocate the outputs and pass them in; the functions here fill them.
They run on every device that torch and torchvision run on, in any floating dtype: half precision
is computed in float32 and rounded once, at the end.
"""

from collections.abc import Callable
from typing import NoReturn

from . import (
    ops_boxes,
    ops_carafe,
    ops_deform,
    ops_deform_pool,
    ops_focal,
    ops_rois,
    ops_sync_bn,
)


def get_compiler_version() -> str:
    """Return what mmcv's environment report shows as the compiler."""
    return 'not compiled'


def get_compiling_cuda_version() -> str:
    """Return what mmcv's environment report shows as the compiler's CUDA version."""
    return 'not compiled'


_PROVIDED = (
    get_compiler_version,
    get_compiling_cuda_version,
    ops_boxes.nms,
    ops_boxes.softnms,
    ops_boxes.nms_match,
    ops_boxes.bbox_overlaps,
    ops_rois.roi_align_forward,
    ops_rois.roi_align_backward,
    ops_rois.roi_pool_forward,
    ops_rois.roi_pool_backward,
    ops_focal.sigmoid_focal_loss_forward,
    ops_focal.sigmoid_focal_loss_backward,
    ops_focal.softmax_focal_loss_forward,
    ops_focal.softmax_focal_loss_backward,
    ops_deform.deform_conv_forward,
    ops_deform.deform_conv_backward_input,
    ops_deform.deform_conv_backward_parameters,
    ops_deform.modulated_deform_conv_forward,
    ops_deform.modulated_deform_conv_backward,
    ops_deform.ms_deform_attn_forward,
    ops_deform.ms_deform_attn_backward,
    ops_deform_pool.deform_roi_pool_forward,
    ops_deform_pool.deform_roi_pool_backward,
    ops_carafe.carafe_forward,
    ops_carafe.carafe_backward,
    ops_carafe.carafe_naive_forward,
    ops_carafe.carafe_naive_backward,
    ops_carafe.masked_im2col_forward,
    ops_carafe.masked_col2im_forward,
    ops_sync_bn.sync_bn_forward_mean,
    ops_sync_bn.sync_bn_forward_var,
    ops_sync_bn.sync_bn_forward_output,
    ops_sync_bn.sync_bn_backward_param,
    ops_sync_bn.sync_bn_backward_data,
)

OPERATORS: dict[str, Callable] = {function.__name__: function for function in _PROVIDED}


def missing_operator(name: str) -> Callable[..., NoReturn]:
    """Return a function that refuses by name; the ``__getattr__`` of ``mmcv._ext``.

    mmcv asks for every operator when ``mmcv.ops`` is imported, so the refusal must wait for the
    call.

    Raises:
        AttributeError: for private names, which are never operators.
    """
    if name.startswith('_'):
        raise AttributeError(f"module 'mmcv._ext' has no attribute {name!r}")

    def refuse(*args: object, **kwargs: object) -> NoReturn:
        raise NotImplementedError(
            f'the mmcv operator {name!r} is not provided without a compiled mmcv. To get one: '
            'pip uninstall mmcv-lite, then pip install --no-build-isolation "mmcv==2.1.0" with '
            '"setuptools<81" and a C++ (and CUDA) compiler that fits your torch'
        )

    refuse.__name__ = refuse.__qualname__ = name
    return refuse
