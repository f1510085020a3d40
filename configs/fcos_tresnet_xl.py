# FCOS on TResNet-XL for MS-COCO, as on TResNet-M.
_base_ = 'fcos_tresnet_m.py'

model = dict(
    backbone=dict(
        arch='xl', init_cfg=dict(type='Pretrained', checkpoint='timm://tresnet_xl.miil_in1k')
    ),
    neck=dict(in_channels=[166, 1328, 2656]),
)
