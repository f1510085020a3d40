# What --demo puts over a multi-label config: which digits are in the detection demo's images. Ten
# classes, from scratch.
_base_ = 'demo_classification.py'

demo_range = (0.85, 0.97)  # of the headline metric

data_root = 'data/demo/'
classes = tuple('0123456789')

train_pipeline = [
    dict(type='Resize', size=(64, 64)),
    dict(type='RandomAffine', degrees=0, translate=(0.1, 0.1), scale=(0.9, 1.1)),
]
test_pipeline = [dict(type='Resize', size=(64, 64))]
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='MultiLabelDataset',
        data_root=data_root,
        ann_file='annotations/instances_train2017.json',
        data_prefix=dict(img='train2017/'),
        metainfo=dict(classes=classes),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='MultiLabelDataset',
        data_root=data_root,
        ann_file='annotations/instances_val2017.json',
        data_prefix=dict(img='val2017/'),
        metainfo=dict(classes=classes),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
# A list: it replaces the config's own, arguments and all.
val_evaluator = [dict(type='MultiLabelMetric')]
test_evaluator = val_evaluator

train_cfg = dict(max_epochs=16, val_interval=4)
optim_wrapper = dict(optimizer=dict(lr=0.001))  # for a batch of 8
param_scheduler = dict(warmup=0.125)
default_hooks = dict(checkpoint=dict(interval=4))
