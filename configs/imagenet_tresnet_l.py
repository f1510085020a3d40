# TResNet-L on ImageNet at 224 pixels, by the recipe of TResNet-M.
_base_ = 'imagenet_tresnet_m.py'

model = dict(backbone=dict(arch='l'), head=dict(in_channels=2432))
