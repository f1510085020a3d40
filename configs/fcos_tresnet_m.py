_base_ = [
    '_base_/fcos.py',
    '_base_/coco_detection.py',
    '_base_/schedule_1x.py',
    '_base_/runtime.py',
]
