# Which of MS-COCO's 80 classes are in an image: the 2014 split, on which the literature reports,
# at data/coco/ (tools/get_coco.py --year 2014 downloads it; --data-root DIR moves it). Images
# without annotations are skipped, as by the published protocol; filter_empty=False keeps them.
data_root = 'data/coco/'

train_pipeline = [
    dict(type='Resize', size=(448, 448)),
    dict(type='Cutout', ratio=0.5),
    dict(type='RandAugment'),
]
test_pipeline = [dict(type='Resize', size=(448, 448))]

train_dataloader = dict(
    batch_size=64,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='stack_samples'),
    dataset=dict(
        type='MultiLabelDataset',
        data_root=data_root,
        ann_file='annotations/instances_train2014.json',
        data_prefix=dict(img='train2014/'),
        filter_empty=True,
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='stack_samples'),
    dataset=dict(
        type='MultiLabelDataset',
        data_root=data_root,
        ann_file='annotations/instances_val2014.json',
        data_prefix=dict(img='val2014/'),
        filter_empty=True,
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
# The authors of ASL validate precision, recall and F1 at threshold=0.8; the mAP needs none.
val_evaluator = dict(type='MultiLabelMetric', threshold=0.5)
test_evaluator = val_evaluator
