# A few minutes of AdamW from random weights, for data of a few hundred images.
max_epochs = 12
warmup_epochs = 2

train_cfg = dict(type='ResumableEpochTrainLoop', max_epochs=max_epochs, val_interval=3)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=0.001, weight_decay=0.05),
    paramwise_cfg=dict(
        flat_decay_mult=0.0,  # norms and biases
        custom_keys={'scales': dict(decay_mult=0.0)},  # FCOS's factor per level, a single number
    ),
    clip_grad=dict(max_norm=10, norm_type=2),
)
# Relative to the learning rate, which is scaled to the batch size: OneCycleLR's peak is not.
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=0.04,
        by_epoch=True,
        begin=0,
        end=warmup_epochs,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=0.001,
        by_epoch=True,
        begin=warmup_epochs,
        end=max_epochs,
        T_max=max_epochs - warmup_epochs,
        convert_to_iter_based=True,
    ),
]
auto_scale_lr = dict(enable=False, base_batch_size=8)
