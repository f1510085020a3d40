# 300 epochs of SGD with one cycle of the learning rate (up in a line, down in a cosine), decoupled
# weight decay and bfloat16 (on a CPU: float32). The paper prints neither the learning rate nor the
# decay; these are this project's choice. The learning rate follows the real number of images a
# step, and is printed: both schedulers are relative to it, which OneCycleLR's peak is not.
max_epochs = 300
warmup_epochs = 15

train_cfg = dict(type='ResumableEpochTrainLoop', max_epochs=max_epochs, val_interval=5)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    type='AmpOptimWrapper',
    dtype='bfloat16',
    loss_scale=1.0,
    optimizer=dict(type='SGDW', lr=0.4, momentum=0.9, nesterov=True, weight_decay=0.0005),
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
        type='CosineAnnealingLR',
        eta_min_ratio=0.0001,
        by_epoch=True,
        begin=warmup_epochs,
        end=max_epochs,
        T_max=max_epochs - warmup_epochs,
        convert_to_iter_based=True,
    ),
]
auto_scale_lr = dict(enable=True, base_batch_size=1024)
