# TResNet-L on Stanford Cars at 368 pixels, by torchvision's own dataset. The paper's result is
# 96.0 %. torchvision cannot download this one any more; its documentation says what goes where.
_base_ = 'tresnet_m_folders.py'

data_root = 'data/stanford_cars/'
model = dict(
    backbone=dict(
        arch='l', init_cfg=dict(type='Pretrained', checkpoint='timm://tresnet_l.miil_in1k')
    ),
    head=dict(in_channels=2432, num_classes=196),
)
train_pipeline = [
    dict(type='RandomResizedCrop', size=368, scale=(0.3, 1.0)),
    dict(type='RandomHorizontalFlip'),
    dict(type='AutoAugment'),
    dict(type='Cutout', ratio=0.5),
]
test_pipeline = [
    dict(type='Resize', size=420),
    dict(type='CenterCrop', size=368),
]
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='TorchvisionDataset',
        name='StanfordCars',
        data_root=data_root,
        split='train',
        pipeline=train_pipeline,
    )
)
val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='TorchvisionDataset',
        name='StanfordCars',
        data_root=data_root,
        split='test',
        test_mode=True,
        pipeline=test_pipeline,
    )
)
test_dataloader = val_dataloader
