# ASL's recipe (arXiv 2009.14119): Adam with decoupled weight decay, one cycle of the learning rate
# of 80 epochs with a fifth of it warm-up, stopped at 40, and an average of 0.9997 a step; bfloat16
# (on a CPU: float32). As in torch's OneCycleLR, which the authors use, beta1 goes from 0.95 to 0.85
# and back. The schedulers are relative to the learning rate, so that it can follow the batch size.
max_epochs = 40
cycle_epochs = 80
warmup_epochs = 16

train_cfg = dict(type='ResumableEpochTrainLoop', max_epochs=max_epochs, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    type='AmpOptimWrapper',
    dtype='bfloat16',
    loss_scale=1.0,
    optimizer=dict(type='AdamW', lr=0.0001, betas=(0.95, 0.999), weight_decay=0.0001),
    paramwise_cfg=dict(flat_decay_mult=0.0),  # norms and biases
)
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
        type='LinearMomentum',
        start_factor=1.0,
        end_factor=0.85 / 0.95,
        by_epoch=True,
        begin=0,
        end=warmup_epochs,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=0.0001,
        by_epoch=True,
        begin=warmup_epochs,
        end=cycle_epochs,
        T_max=cycle_epochs - warmup_epochs,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingMomentum',
        eta_min=0.95,  # the end, which lies above the start here
        by_epoch=True,
        begin=warmup_epochs,
        end=cycle_epochs,
        T_max=cycle_epochs - warmup_epochs,
        convert_to_iter_based=True,
    ),
]
auto_scale_lr = dict(enable=True, base_batch_size=128)
