# For classifiers: the best checkpoint is by top-1, no boxes are drawn, the layout is channels-last.
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
custom_hooks = [*_base_.custom_hooks, dict(type='BackboneSpeedHook', channels_last=True)]
visualizer = dict(
    _delete_=True,
    type='Visualizer',
    vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')],
)
