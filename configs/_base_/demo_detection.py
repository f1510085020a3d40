# What --demo puts over a detection config: the embedded digits, ten classes from scratch, and a
# schedule of minutes.
data_root = 'data/demo/'
classes = tuple('0123456789')

# Over FCOS on TResNet; any other model, and that of --demo-full, stays the config's own. 7.7 GFLOP
# a step of 8 images, 5.8 TFLOP in all: TResNet-M with 256 channels costs 13 times that. Three
# levels, since no image, and so no object, is larger than 96 pixels.
model = dict(
    type='FCOS',
    backbone=dict(
        type='TResNet',
        arch=dict(_delete_=True, depths=(2, 2, 2, 1), width_factor=0.5),
        out_indices=(1, 2, 3),
    ),
    neck=dict(type='FPN', in_channels=[64, 512, 1024], out_channels=64, num_outs=3, start_level=0),
    bbox_head=dict(
        type='FCOSHead',
        in_channels=64,
        feat_channels=64,
        stacked_convs=2,
        strides=[8, 16, 32],
        regress_ranges=((-1, 32), (32, 64), (64, 1e8)),  # pixels from a point to a box's far side
    ),
)
demo_range = (0.6, 0.8)  # of the headline metric
full_lr = 0.0007  # of any other network: TResNet-M learns slowly at that of the small one

train_pipeline = [
    dict(type='LoadImage', on_error='raise'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(96, 96), keep_ratio=True),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImage'),
    dict(type='Resize', scale=(96, 96), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
train_dataloader = dict(
    _delete_=True,
    batch_size=8,
    num_workers=0,  # images of 96 pixels: a worker takes more of a core than it saves
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='CocoDataset',
        data_root=data_root,
        metainfo=dict(classes=classes),
        ann_file='annotations/instances_train2017.json',
        data_prefix=dict(img='train2017/'),
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    _delete_=True,
    batch_size=16,
    num_workers=0,
    persistent_workers=False,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CocoDataset',
        data_root=data_root,
        metainfo=dict(classes=classes),
        ann_file='annotations/instances_val2017.json',
        data_prefix=dict(img='val2017/'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    _delete_=True,
    type='CocoTwelveMetric',
    ann_file=data_root + 'annotations/instances_val2017.json',
    metric='bbox',
)
test_evaluator = val_evaluator

train_cfg = dict(_delete_=True, type='ResumableEpochTrainLoop', max_epochs=6, val_interval=3)
val_cfg = dict(_delete_=True, type='ValLoop')
test_cfg = dict(_delete_=True, type='TestLoop')
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=0.0035, weight_decay=0.05, fused=True),
    paramwise_cfg=dict(
        flat_decay_mult=0.0,  # norms and biases
        custom_keys={'scales': dict(decay_mult=0.0)},  # FCOS's factor per level, a single number
    ),
    clip_grad=dict(max_norm=10, norm_type=2),
)
param_scheduler = dict(
    _delete_=True, type='WarmupCosineLR', by_epoch=False, warmup=1 / 6, eta_min_ratio=0.001
)
auto_scale_lr = dict(_delete_=True, enable=True, base_batch_size=8)
default_hooks = dict(logger=dict(interval=25), checkpoint=dict(interval=3, max_keep_ckpts=1))
