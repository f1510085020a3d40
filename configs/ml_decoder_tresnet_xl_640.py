# ML-Decoder on TResNet-XL at 640 pixels. The paper's result is 91.4 mAP, from ImageNet-21K weights.
_base_ = 'ml_decoder_tresnet_l_448.py'

model = dict(
    backbone=dict(
        arch='xl', init_cfg=dict(type='Pretrained', checkpoint='timm://tresnet_xl.miil_in1k_448')
    ),
    head=dict(in_channels=2656),
)
train_pipeline = [
    dict(type='Resize', size=(640, 640)),
    dict(type='Cutout', ratio=0.5),
    dict(type='RandAugment'),
]
test_pipeline = [dict(type='Resize', size=(640, 640))]
train_dataloader = dict(batch_size=32, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(batch_size=32, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
