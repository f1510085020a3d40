# 12 epochs of SGD at 16 images per step; auto_scale_lr is on: the learning rate follows the real
# number of images per step, and is printed.
train_cfg = dict(type='ResumableEpochTrainLoop', max_epochs=12, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0.0001),
    paramwise_cfg=dict(
        # No decay on norms and biases. norm_decay_mult would not see an In-Place ABN; every
        # one-dimensional parameter is a norm's or a bias.
        flat_decay_mult=0.0,
        custom_keys={'scales': dict(decay_mult=0.0)},  # FCOS's factor per level, a single number
    ),
    clip_grad=dict(max_norm=35, norm_type=2),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=1000),
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=12, milestones=[8, 11], gamma=0.1),
]
auto_scale_lr = dict(enable=True, base_batch_size=16)
