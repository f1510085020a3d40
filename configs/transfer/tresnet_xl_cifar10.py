# TResNet-XL on CIFAR-10 at 224 pixels, by torchvision's own dataset. The paper's result is 99.0 %.
_base_ = 'tresnet_m_folders.py'

data_root = 'data/cifar10/'
model = dict(
    backbone=dict(
        arch='xl', init_cfg=dict(type='Pretrained', checkpoint='timm://tresnet_xl.miil_in1k')
    ),
    head=dict(in_channels=2656, num_classes=10),
)
train_pipeline = [
    dict(type='RandomCrop', size=32, padding=4),
    dict(type='RandomHorizontalFlip'),
    dict(type='AutoAugment', policy='cifar10'),
    dict(type='Resize', size=224),
    dict(type='Cutout', ratio=0.5),
]
test_pipeline = [dict(type='Resize', size=224)]
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='TorchvisionDataset',
        name='CIFAR10',
        data_root=data_root,
        train=True,
        pipeline=train_pipeline,
    )
)
val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='TorchvisionDataset',
        name='CIFAR10',
        data_root=data_root,
        train=False,
        test_mode=True,
        pipeline=test_pipeline,
    )
)
test_dataloader = val_dataloader
