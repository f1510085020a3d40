# Hand signs for the digits 0 to 9 (https://github.com/ardamavi/Sign-Language-Digits-Dataset,
# Apache-2.0), at data/sign_digits/ with a folder for each class below train/ and val/.
_base_ = 'class_folders.py'

data_root = 'data/sign_digits/'

train_pipeline = [
    dict(type='RandomResizedCrop', size=64, scale=(0.6, 1.0), ratio=(0.9, 1.11)),
    dict(type='RandomRotation', degrees=15, interpolation='bilinear'),
    dict(type='ColorJitter', brightness=0.3, contrast=0.3),
]
test_pipeline = [dict(type='Resize', size=(64, 64))]

train_dataloader = dict(
    batch_size=32,
    num_workers=1,
    pin_memory=False,
    dataset=dict(data_root=data_root, pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=1,
    pin_memory=False,
    dataset=dict(data_root=data_root, pipeline=test_pipeline),
)
test_dataloader = val_dataloader
