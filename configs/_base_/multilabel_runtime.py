# For multi-label classifiers: the best checkpoint is by mAP, the EMA is the paper's.
_base_ = 'classification_runtime.py'

default_hooks = dict(checkpoint=dict(save_best='multilabel/mAP'))
ema = dict(_base_.ema, momentum=0.0003)  # the paper's 0.9997
custom_hooks = [ema if hook.type == 'EMAHook' else hook for hook in _base_.custom_hooks]
