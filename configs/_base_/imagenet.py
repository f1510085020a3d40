# ImageNet-1k at data/imagenet/: train/ with a folder for each class, val/ with all images and
# meta/val.txt with `NAME NUMBER` on each line, the numbers in the order of the folders' names.
# Where val/ has class folders too: --cfg-options val_dataloader.dataset.ann_file=''
_base_ = 'class_folders.py'

data_root = 'data/imagenet/'

train_pipeline = [
    dict(type='RandomResizedCrop', size=224),
    dict(type='RandomHorizontalFlip'),
    dict(type='AutoAugment'),
    dict(type='Cutout', ratio=0.5),
]
train_dataloader = dict(
    batch_size=128,
    num_workers=8,
    dataset=dict(data_root=data_root, pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=128,
    num_workers=8,
    dataset=dict(data_root=data_root, ann_file='meta/val.txt'),
)
test_dataloader = val_dataloader
