# ImageNet-21K-P (Ridnik et al., arXiv 2104.10972): the 11221 classes with enough images, at
# data/imagenet21k/ with a folder for each class below train/ and val/. A plain softmax over all
# classes, from ImageNet-1k weights; the paper's semantic softmax is not in here.
_base_ = 'imagenet_tresnet_m.py'

data_root = 'data/imagenet21k/'
model = dict(
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='timm://tresnet_m.miil_in1k')),
    head=dict(num_classes=11221, loss=dict(type='SoftmaxCrossEntropyLoss', label_smoothing=0.2)),
)
train_pipeline = [
    dict(type='Resize', size=(224, 224)),
    dict(type='Cutout', ratio=0.5),
    dict(type='RandAugment'),
]
test_pipeline = [dict(type='Resize', size=(224, 224))]
train_dataloader = dict(dataset=dict(data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(data_root=data_root, ann_file='', pipeline=test_pipeline))
test_dataloader = val_dataloader

train_cfg = dict(max_epochs=80)
optim_wrapper = dict(optimizer=dict(_delete_=True, type='AdamW', lr=0.0003, weight_decay=0.0001))
param_scheduler = dict(warmup=0.1)
