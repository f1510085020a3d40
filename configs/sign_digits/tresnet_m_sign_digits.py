# From scratch, in minutes on a CPU.
_base_ = [
    '../_base_/classifier.py',
    '../_base_/sign_digits.py',
    '../_base_/schedule_short.py',
    '../_base_/classification_runtime.py',
]

model = dict(head=dict(num_classes=10))
train_cfg = dict(max_epochs=15, val_interval=5)
param_scheduler = dict(warmup=0.2)
auto_scale_lr = dict(enable=True, base_batch_size=32)
default_hooks = dict(logger=dict(interval=16), checkpoint=dict(interval=5, max_keep_ckpts=1))
