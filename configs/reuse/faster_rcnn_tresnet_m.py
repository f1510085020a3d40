# Faster R-CNN (Ren et al., 2015) as MMDetection trains it, on TResNet-M.
_base_ = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'
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
