# TResNet-M on MS-COCO's 80 classes by ASL's recipe, from ImageNet weights of 448 pixels.
_base_ = [
    '_base_/classifier.py',
    '_base_/coco_multilabel.py',
    '_base_/schedule_multilabel.py',
    '_base_/multilabel_runtime.py',
]

model = dict(
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='timm://tresnet_m.miil_in1k_448')),
    head=dict(
        num_classes=80,
        loss=dict(
            _delete_=True,
            type='AsymmetricLoss',
            gamma_neg=4,
            gamma_pos=0,
            clip=0.05,
            reduction='sum',
        ),
    ),
)
