# No squeeze-and-excite in any stage. The published convolutions were trained with it: from random
# weights.
_base_ = '../fcos_tresnet_m.py'

model = dict(
    backbone=dict(
        arch=dict(_delete_=True, se_stages=(False,) * 4),
        frozen_stages=-1,
        norm_eval=False,
        init_cfg=None,
    )
)
