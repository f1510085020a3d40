# FCOS on TResNet-M from scratch on blood cells, in minutes on a CPU.
_base_ = [
    '../_base_/fcos.py',
    '../_base_/bccd_detection.py',
    '../_base_/schedule_short.py',
    '../_base_/runtime.py',
]

model = dict(
    # From scratch: everything learns, and the norms learn their statistics.
    backbone=dict(frozen_stages=-1, norm_eval=False, init_cfg=None),
    bbox_head=dict(num_classes=3),
)
default_hooks = dict(logger=dict(interval=10))
