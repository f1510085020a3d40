# ML-Decoder (arXiv 2111.12933) on TResNet-L at 448 pixels: a query for each of the 80 classes, and
# a cycle of 40 epochs. The paper's result is 90.0 mAP, from ImageNet-21K weights.
_base_ = 'multilabel_tresnet_l_448.py'

model = dict(
    head=dict(
        _delete_=True,
        type='MLDecoderHead',
        in_channels=2432,
        num_classes=80,
        loss=dict(type='AsymmetricLoss', gamma_neg=4, gamma_pos=0, clip=0.05, reduction='sum'),
    ),
)
cycle = dict(by_epoch=False, warmup=0.2, length=1)
param_scheduler = [
    dict(cycle, type='WarmupCosineLR', eta_min_ratio=0.0001),
    dict(cycle, type='WarmupCosineMomentum', high=0.95, low=0.85),
]
