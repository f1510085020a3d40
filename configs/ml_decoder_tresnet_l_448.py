# ML-Decoder (arXiv 2111.12933) on TResNet-L at 448 pixels: a query for each of the 80 classes, and
# a cycle of 40 epochs. The paper's figure is 90.0 mAP, from ImageNet-21K weights.
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
cycle_epochs = 40
warmup_epochs = 8
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=0.04,
        by_epoch=True,
        begin=0,
        end=warmup_epochs,
        convert_to_iter_based=True,
    ),
    dict(
        type='LinearMomentum',
        start_factor=1.0,
        end_factor=0.85 / 0.95,
        by_epoch=True,
        begin=0,
        end=warmup_epochs,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=0.0001,
        by_epoch=True,
        begin=warmup_epochs,
        end=cycle_epochs,
        T_max=cycle_epochs - warmup_epochs,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingMomentum',
        eta_min=0.95,  # the end, which lies above the start here
        by_epoch=True,
        begin=warmup_epochs,
        end=cycle_epochs,
        T_max=cycle_epochs - warmup_epochs,
        convert_to_iter_based=True,
    ),
]
