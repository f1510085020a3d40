_base_ = 'runtime.py'

default_hooks = dict(
    _delete_=True,  # MMDetection's visualization draws boxes
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(
        type='SafeCheckpointHook',
        interval=1,
        max_keep_ckpts=3,
        save_best='accuracy/top1',
        rule='greater',
    ),
    sampler_seed=dict(type='DistSamplerSeedHook'),
)
custom_hooks = [
    dict(type='StopOnNonFiniteHook'),
    dict(
        type='EMAHook',
        ema_type='ExpMomentumEMA',
        momentum=0.0002,
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
visualizer = dict(
    _delete_=True,
    type='Visualizer',
    vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')],
)
