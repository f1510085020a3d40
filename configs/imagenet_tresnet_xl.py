# TResNet-XL on ImageNet at 224 pixels, by the recipe of TResNet-M.
_base_ = 'imagenet_tresnet_m.py'

model = dict(backbone=dict(arch='xl'), head=dict(in_channels=2656))
