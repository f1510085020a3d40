# Any data with a folder for each class below train/ and val/, at 224 pixels.
data_root = 'data/folders/'

train_pipeline = [
    dict(type='RandomResizedCrop', size=224, scale=(0.3, 1.0)),
    dict(type='RandomHorizontalFlip'),
    dict(type='AutoAugment'),
    dict(type='Cutout', ratio=0.5),
]
test_pipeline = [
    dict(type='Resize', size=256),
    dict(type='CenterCrop', size=224),
]

train_dataloader = dict(
    batch_size=64,
    num_workers=4,
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
    batch_size=64,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='stack_samples'),
    dataset=dict(
        type='ImageFolderDataset',
        data_root=data_root,
        ann_file='',
        data_prefix=dict(img='val/'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='AccuracyMetric')
test_evaluator = val_evaluator
