# SOLOv2 (Wang et al., 2020) as MMDetection trains it, on TResNet-M.
# norm_eval=True is the base's too, by ResNet's default.
_base_ = 'mmdet::solov2/solov2_r50_fpn_1x_coco.py'
custom_imports = dict(imports=['tresnet_det'], allow_failed_imports=False)

model = dict(
    data_preprocessor=dict(mean=[0, 0, 0], std=[255, 255, 255], bgr_to_rgb=True),
    backbone=dict(
        _delete_=True,
        type='TResNet',
        arch='m',
        frozen_stages=1,
        norm_eval=True,
        init_cfg=dict(type='Pretrained', checkpoint='timm://tresnet_m.miil_in1k'),
    ),
    neck=dict(in_channels=[64, 128, 1024, 2048]),
)
# No weight decay on norms; norm_decay_mult would not see an In-Place ABN.
optim_wrapper = dict(paramwise_cfg=dict(flat_decay_mult=0.0))
