# Bottlenecks in all four stages, as in ResNet-50, instead of basic blocks in the first two; the
# depths stay those of TResNet-M. The published weights do not fit: from scratch.
_base_ = '../fcos_tresnet_m.py'

model = dict(
    backbone=dict(
        arch=dict(_delete_=True, block_types=('bottleneck',) * 4),
        frozen_stages=-1,
        norm_eval=False,
        init_cfg=None,
    ),
    neck=dict(in_channels=[512, 1024, 2048]),
)
