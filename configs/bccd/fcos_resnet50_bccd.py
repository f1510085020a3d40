# Baseline for fcos_tresnet_m_bccd.py: the same recipe, schedule and data, another backbone.
_base_ = 'fcos_tresnet_m_bccd.py'

model = dict(
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    backbone=dict(
        _delete_=True,
        type='ResNet',
        depth=50,
        num_stages=4,
        out_indices=(1, 2, 3),
        frozen_stages=-1,
        norm_eval=False,
        norm_cfg=dict(type='BN', requires_grad=True),
        style='pytorch',
    ),
    neck=dict(in_channels=[512, 1024, 2048]),
)
