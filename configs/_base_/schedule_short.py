# A few minutes of AdamW from scratch, for data of a few hundred images.
train_cfg = dict(type='ResumableEpochTrainLoop', max_epochs=12, val_interval=3)
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
param_scheduler = dict(type='WarmupCosineLR', by_epoch=False, warmup=1 / 6, eta_min_ratio=0.001)
auto_scale_lr = dict(enable=False, base_batch_size=8)
