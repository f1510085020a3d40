# From random weights, in minutes on a CPU.
_base_ = [
    '../_base_/classifier.py',
    '../_base_/sign_digits.py',
    '../_base_/schedule_short.py',
    '../_base_/classification_runtime.py',
]

model = dict(head=dict(num_classes=10))
max_epochs = 15
warmup_epochs = 3
train_cfg = dict(max_epochs=max_epochs, val_interval=5)
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
auto_scale_lr = dict(enable=True, base_batch_size=32)
default_hooks = dict(logger=dict(interval=16), checkpoint=dict(interval=5, max_keep_ckpts=1))
