# 300 epochs of SGD with one cycle of the learning rate (up in a line, down in a cosine), decoupled
# weight decay and bfloat16 (on a CPU: float32). The paper prints neither the learning rate nor the
# decay; these are this project's choice. The learning rate follows the real batch
# size, and is printed.
train_cfg = dict(type='ResumableEpochTrainLoop', max_epochs=300, val_interval=5)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    type='AmpOptimWrapper',
    dtype='bfloat16',
    loss_scale=1.0,
    optimizer=dict(type='SGDW', lr=0.4, momentum=0.9, nesterov=True, weight_decay=0.0005),
    paramwise_cfg=dict(flat_decay_mult=0.0),  # norms and biases
)
param_scheduler = dict(type='WarmupCosineLR', by_epoch=False, warmup=0.05, eta_min_ratio=0.0001)
auto_scale_lr = dict(enable=True, base_batch_size=1024)
