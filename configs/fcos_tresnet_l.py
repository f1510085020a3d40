# FCOS on TResNet-L for MS-COCO, as on TResNet-M.
_base_ = 'fcos_tresnet_m.py'

model = dict(
    backbone=dict(
        arch='l', init_cfg=dict(type='Pretrained', checkpoint='timm://tresnet_l.miil_in1k')
    ),
    neck=dict(in_channels=[152, 1216, 2432]),
)
