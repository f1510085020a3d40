# Ten epochs at 448 pixels from the weights of 224. From weights of your own:
# --cfg-options model.backbone.init_cfg.checkpoint=FILE model.head.init_cfg.checkpoint=FILE
_base_ = 'imagenet_tresnet_m.py'

weights = dict(type='Pretrained', checkpoint='timm://tresnet_m.miil_in1k')
model = dict(backbone=dict(init_cfg=weights), head=dict(init_cfg=weights))

train_pipeline = [
    dict(type='RandomResizedCrop', size=448),
    dict(type='RandomHorizontalFlip'),
    dict(type='AutoAugment'),
    dict(type='Cutout', ratio=0.5),
]
test_pipeline = [
    dict(type='Resize', size=512),
    dict(type='CenterCrop', size=448),
]
train_dataloader = dict(batch_size=64, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(batch_size=64, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

train_cfg = dict(max_epochs=10, val_interval=1)
optim_wrapper = dict(optimizer=dict(lr=0.02))
param_scheduler = dict(warmup=0.1, eta_min_ratio=0.001)
