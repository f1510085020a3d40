# Hand signs for the digits 0 to 9 (https://github.com/ardamavi/Sign-Language-Digits-Dataset,
# Apache-2.0), at data/sign_digits/ with a folder for each class below train/ and val/.
data_root = 'data/sign_digits/'

train_pipeline = [
    dict(type='RandomResizedCrop', size=64, scale=(0.6, 1.0), ratio=(0.9, 1.11)),
    dict(type='RandomRotation', degrees=15, interpolation='bilinear'),
    dict(type='ColorJitter', brightness=0.3, contrast=0.3),
]
test_pipeline = [dict(type='Resize', size=(64, 64))]

train_dataloader = dict(
    batch_size=32,
    num_workers=1,
    persistent_workers=True,
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
    num_workers=1,
    persistent_workers=True,
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
