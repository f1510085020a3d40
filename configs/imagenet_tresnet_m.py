# TResNet-M on ImageNet-1k from scratch by the paper's recipe. The paper's result for it is
# 80.8 % top-1 at 224 pixels.
_base_ = [
    '_base_/classifier.py',
    '_base_/imagenet.py',
    '_base_/schedule_imagenet.py',
    '_base_/classification_runtime.py',
]
