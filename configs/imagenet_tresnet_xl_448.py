# TResNet-XL at 448 pixels, from its weights of 224, as TResNet-M.
_base_ = 'imagenet_tresnet_m_448.py'

weights = dict(type='Pretrained', checkpoint='timm://tresnet_xl.miil_in1k')
model = dict(
    backbone=dict(arch='xl', init_cfg=weights), head=dict(in_channels=2656, init_cfg=weights)
)
