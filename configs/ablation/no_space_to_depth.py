# Stem: a 7x7 convolution and max pooling, as ResNet's, instead of space-to-depth. The published
# weights have no such stem, so all of these ablations but In-Place ABN's train from scratch:
# compare with `tools/train.py configs/fcos_tresnet_m.py --from-scratch`.
_base_ = '../fcos_tresnet_m.py'

model = dict(
    backbone=dict(
        arch=dict(_delete_=True, stem='conv'), frozen_stages=-1, norm_eval=False, init_cfg=None
    )
)
