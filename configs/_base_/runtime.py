# What every config runs with: imports, hooks, EMA, processes, logs. The headline is a detector's.
custom_imports = dict(
    imports=['tresnet_det', 'tresnet_det.datasets', 'tresnet_det.engine', 'tresnet_det.tasks'],
    allow_failed_imports=False,
)
default_scope = 'mmdet'

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(
        type='SafeCheckpointHook',
        interval=1,
        max_keep_ckpts=3,
        save_best='coco/bbox_mAP',
        rule='greater',
    ),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='DetVisualizationHook'),
)
# Averaged weights are what is validated and saved; the average warms up over the first `gamma`
# iterations, so that short runs are not held back by their first weights.
ema = dict(
    type='EMAHook',
    ema_type='ExpMomentumEMA',
    momentum=0.0002,
    gamma=2000,
    update_buffers=True,
    priority=49,
)
custom_hooks = [
    dict(type='StopOnNonFiniteHook'),
    ema,
    dict(type='ShareStatisticsHook'),
    dict(type='CheckpointGuardHook'),
    dict(type='ProgressBarHook'),
    dict(type='CurvesHook'),
]

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
randomness = dict(seed=0)
vis_backends = [dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]
# No name: each training of a process then has a log of its own.
visualizer = dict(type='DetLocalVisualizer', vis_backends=vis_backends)
log_processor = dict(type='LogProcessor', window_size=50, by_epoch=True)
log_level = 'INFO'
load_from = None
resume = False
