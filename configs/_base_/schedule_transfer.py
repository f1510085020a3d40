# 80 epochs of SGD from ImageNet weights, one cycle of the learning rate, as the paper transfers. It
# prints neither the learning rate nor the batch size; these are this project's choice.
train_cfg = dict(type='ResumableEpochTrainLoop', max_epochs=80, val_interval=2)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    type='AmpOptimWrapper',
    dtype='bfloat16',
    loss_scale=1.0,
    optimizer=dict(type='SGDW', lr=0.02, momentum=0.9, nesterov=True, weight_decay=0.0005),
    paramwise_cfg=dict(
        flat_decay_mult=0.0,  # norms and biases
        custom_keys={'head': dict(lr_mult=5.0)},  # which is trained from scratch
    ),
)
param_scheduler = dict(type='WarmupCosineLR', by_epoch=False, warmup=0.1, eta_min_ratio=0.001)
auto_scale_lr = dict(enable=True, base_batch_size=128)
