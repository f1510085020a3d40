# What --demo puts over a classification config: handwritten digits, one an image. Ten classes,
# from scratch.
_base_ = 'demo_detection.py'

# Over a classifier on TResNet; any other model, and that of --demo-full, stays the config's own.
model = dict(
    _delete_=True,
    type='ImageClassifier',
    backbone=dict(type='TResNet', arch=dict(_delete_=True, depths=(2, 2, 3, 1), width_factor=0.5)),
    head=dict(in_channels=1024),
)
demo_range = (95, 100)  # of the headline metric

data_root = 'data/demo_classes/'
classes = tuple('0123456789')

train_dataloader = dict(
    batch_size=16,
    num_workers=1,
    persistent_workers=True,
    collate_fn=dict(type='stack_samples'),
    drop_last=True,
    dataset=dict(
        _delete_=True,
        type='ImageFolderDataset',
        data_root=data_root,
        ann_file='',
        data_prefix=dict(img='train/'),
        metainfo=dict(classes=classes),
        pipeline=[dict(type='RandomResizedCrop', size=64, scale=(0.7, 1.0), ratio=(0.9, 1.11))],
    ),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=1,
    persistent_workers=True,
    collate_fn=dict(type='stack_samples'),
    dataset=dict(
        _delete_=True,
        type='ImageFolderDataset',
        data_root=data_root,
        ann_file='',
        data_prefix=dict(img='val/'),
        metainfo=dict(classes=classes),
        test_mode=True,
        pipeline=[dict(type='Resize', size=(64, 64))],
    ),
)
test_dataloader = val_dataloader
# A list: it replaces the config's own, arguments and all.
val_evaluator = [dict(type='AccuracyMetric')]
test_evaluator = val_evaluator

train_cfg = dict(max_epochs=8, val_interval=2)
default_hooks = dict(checkpoint=dict(interval=2))
