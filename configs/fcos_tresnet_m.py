# FCOS on TResNet-M for MS-COCO, 12 epochs from ImageNet weights; fcos_resnet50.py is its baseline.
_base_ = [
    '_base_/fcos.py',
    '_base_/coco_detection.py',
    '_base_/schedule_1x.py',
    '_base_/runtime.py',
]
