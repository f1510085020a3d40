# TResNet-L pretrained on ImageNet-21K, as TResNet-M.
_base_ = 'imagenet21k_tresnet_m.py'

model = dict(
    backbone=dict(
        arch='l', init_cfg=dict(type='Pretrained', checkpoint='timm://tresnet_l.miil_in1k')
    ),
    head=dict(in_channels=2432),
)
