# ImageNet-1k at data/imagenet/: train/ with a folder for each class, val/ with all pictures and
# meta/val.txt with `NAME NUMBER` on each line, the numbers in the order of the folders' names.
# Where val/ has class folders too: --cfg-options val_dataloader.dataset.ann_file=''
data_root = 'data/imagenet/'

train_pipeline = [
    dict(type='RandomResizedCrop', size=224),
    dict(type='RandomHorizontalFlip'),
    dict(type='AutoAugment'),
    dict(type='Cutout', ratio=0.5),
]
test_pipeline = [
    dict(type='Resize', size=256),
    dict(type='CenterCrop', size=224),
]

train_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='stack_samples'),
    dataset=dict(
        type='ImageFolderDataset',
        data_root=data_root,
        ann_file='',
        data_prefix=dict(img='train/'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='stack_samples'),
    dataset=dict(
        type='ImageFolderDataset',
        data_root=data_root,
        ann_file='meta/val.txt',
        data_prefix=dict(img='val/'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='AccuracyMetric')
test_evaluator = val_evaluator
