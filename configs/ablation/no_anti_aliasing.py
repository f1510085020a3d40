# Downsampling by convolutions of stride 2 instead of blurs. The published weights have the same
# shapes but were trained with the blurs: from scratch.
_base_ = '../fcos_tresnet_m.py'

model = dict(
    backbone=dict(
        arch=dict(_delete_=True, anti_alias=False), frozen_stages=-1, norm_eval=False, init_cfg=None
    )
)
