# TResNet-L at 448 pixels, from its weights of 224, as TResNet-M.
_base_ = 'imagenet_tresnet_m_448.py'

weights = dict(type='Pretrained', checkpoint='timm://tresnet_l.miil_in1k')
model = dict(
    backbone=dict(arch='l', init_cfg=weights), head=dict(in_channels=2432, init_cfg=weights)
)
