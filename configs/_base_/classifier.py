# TResNet-M, global average pooling and one fully-connected layer.
model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(
        type='ClsDataPreprocessor',
        # TResNet takes RGB in [0, 1]: no mean, no standard deviation. The datasets read RGB.
        mean=[0, 0, 0],
        std=[255, 255, 255],
        bgr_to_rgb=False,
        channels_last=True,
        non_blocking=True,
    ),
    backbone=dict(type='TResNet', arch='m', out_indices=(3,)),
    head=dict(
        type='LinearClsHead',
        in_channels=2048,
        num_classes=1000,
        loss=dict(type='SoftmaxCrossEntropyLoss', label_smoothing=0.1),
    ),
)
