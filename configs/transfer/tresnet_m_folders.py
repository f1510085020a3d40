# TResNet-M from ImageNet weights on data of your own, a folder for each class below train/ and
# val/: python tools/train.py configs/transfer/tresnet_m_folders.py --data-root DIR
_base_ = [
    '../_base_/classifier.py',
    '../_base_/class_folders.py',
    '../_base_/schedule_transfer.py',
    '../_base_/classification_runtime.py',
]

model = dict(
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='timm://tresnet_m.miil_in1k')),
    head=dict(num_classes=None),  # the tools count the class folders
)
