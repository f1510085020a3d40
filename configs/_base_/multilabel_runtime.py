_base_ = 'classification_runtime.py'

default_hooks = dict(checkpoint=dict(save_best='multilabel/mAP'))
custom_hooks = [
    dict(type='StopOnNonFiniteHook'),
    dict(
        type='EMAHook',
        ema_type='ExpMomentumEMA',
        momentum=0.0003,  # the paper's 0.9997
        gamma=2000,
        update_buffers=True,
        priority=49,
    ),
    dict(type='BackboneSpeedHook', channels_last=True),
    dict(type='ShareStatisticsHook'),
    dict(type='CheckpointGuardHook'),
    dict(type='ProgressBarHook'),
    dict(type='CurvesHook'),
]
