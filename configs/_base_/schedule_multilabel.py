# ASL's recipe (arXiv 2009.14119): Adam with decoupled weight decay, one cycle of the learning rate
# of 80 epochs with a fifth of it warm-up, stopped at 40, and an average of 0.9997 a step; bfloat16
# (on a CPU: float32). As in torch's OneCycleLR, which the authors use, beta1 goes from 0.95 to 0.85
# and back.
train_cfg = dict(type='ResumableEpochTrainLoop', max_epochs=40, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    type='AmpOptimWrapper',
    dtype='bfloat16',
    loss_scale=1.0,
    optimizer=dict(type='AdamW', lr=0.0001, betas=(0.95, 0.999), weight_decay=0.0001),
    paramwise_cfg=dict(flat_decay_mult=0.0),  # norms and biases
)
cycle = dict(by_epoch=False, warmup=0.2, length=2)  # of 80 epochs, stopped at 40
param_scheduler = [
    dict(cycle, type='WarmupCosineLR', eta_min_ratio=0.0001),
    dict(cycle, type='WarmupCosineMomentum', high=0.95, low=0.85),
]
auto_scale_lr = dict(enable=True, base_batch_size=128)
