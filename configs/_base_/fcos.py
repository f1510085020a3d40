# FCOS (Tian et al., ICCV 2019) with the improvements of its authors: centre sampling, regression
# targets normalised by the stride, centerness on the regression branch, GIoU loss.
model = dict(
    type='FCOS',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        # TResNet takes RGB in [0, 1]: no mean, no standard deviation.
        mean=[0, 0, 0],
        std=[255, 255, 255],
        bgr_to_rgb=True,
        pad_size_divisor=32,
    ),
    backbone=dict(
        type='TResNet',
        arch='m',
        out_indices=(1, 2, 3),
        # A few images per GPU are too few for batch statistics, so the pretrained ones serve.
        # --from-scratch turns both off; with many GPUs norm_cfg=dict(type='InPlaceABN', sync=True)
        # is the other way.
        frozen_stages=1,
        norm_eval=True,
        norm_cfg=dict(type='InPlaceABN'),
        init_cfg=dict(type='Pretrained', checkpoint='timm://tresnet_m.miil_in1k'),
    ),
    neck=dict(
        type='FPN',
        in_channels=[128, 1024, 2048],
        out_channels=256,
        start_level=0,
        add_extra_convs='on_output',  # P6 and P7 from P5
        num_outs=5,
        relu_before_extra_convs=True,
    ),
    bbox_head=dict(
        type='FCOSHead',
        num_classes=80,
        in_channels=256,
        stacked_convs=4,
        feat_channels=256,
        strides=[8, 16, 32, 64, 128],
        norm_on_bbox=True,
        centerness_on_reg=True,
        center_sampling=True,
        conv_bias=True,
        loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_bbox=dict(type='GIoULoss', loss_weight=1.0),
        loss_centerness=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0),
    ),
    test_cfg=dict(
        nms_pre=1000,
        min_bbox_size=0,
        score_thr=0.05,
        nms=dict(type='nms', iou_threshold=0.6),
        max_per_img=100,
    ),
)
