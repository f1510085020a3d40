"""The operators of ``mmcv._ext`` in Python, by the names with which mmcv 2.1 calls them.

mmcv's own autograd functions allocate the outputs and pass them in; the functions here fill them.
They run on every device that torch and torchvision run on, in any floating dtype: half precision
is computed in float32 and rounded once, at the end.
"""

from collections.abc import Callable

from . import boxes, carafe, deform, deform_pool, focal, rois, sync_bn


def get_compiler_version() -> str:
    """Return what mmcv's environment report shows as the compiler."""
    return 'not compiled'


def get_compiling_cuda_version() -> str:
    """Return what mmcv's environment report shows as the compiler's CUDA version."""
    return 'not compiled'


_PROVIDED = (
    get_compiler_version,
    get_compiling_cuda_version,
    boxes.nms,
    boxes.softnms,
    boxes.nms_match,
    boxes.bbox_overlaps,
    rois.roi_align_forward,
    rois.roi_align_backward,
    rois.roi_pool_forward,
    rois.roi_pool_backward,
    focal.sigmoid_focal_loss_forward,
    focal.sigmoid_focal_loss_backward,
    focal.softmax_focal_loss_forward,
    focal.softmax_focal_loss_backward,
    deform.deform_conv_forward,
    deform.deform_conv_backward_input,
    deform.deform_conv_backward_parameters,
    deform.modulated_deform_conv_forward,
    deform.modulated_deform_conv_backward,
    deform.ms_deform_attn_forward,
    deform.ms_deform_attn_backward,
    deform_pool.deform_roi_pool_forward,
    deform_pool.deform_roi_pool_backward,
    carafe.carafe_forward,
    carafe.carafe_backward,
    carafe.carafe_naive_forward,
    carafe.carafe_naive_backward,
    carafe.masked_im2col_forward,
    carafe.masked_col2im_forward,
    sync_bn.sync_bn_forward_mean,
    sync_bn.sync_bn_forward_var,
    sync_bn.sync_bn_forward_output,
    sync_bn.sync_bn_backward_param,
    sync_bn.sync_bn_backward_data,
)

OPERATORS: dict[str, Callable] = {function.__name__: function for function in _PROVIDED}
