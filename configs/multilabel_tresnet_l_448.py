# TResNet-L on MS-COCO's 80 classes, by the recipe of TResNet-M.
_base_ = 'multilabel_tresnet_m_448.py'

model = dict(
    backbone=dict(
        arch='l', init_cfg=dict(type='Pretrained', checkpoint='timm://tresnet_l.miil_in1k_448')
    ),
    head=dict(in_channels=2432),
)
