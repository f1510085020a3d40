# TResNet-XL on CIFAR-100 at 224 pixels. The paper's result is 91.5 %.
_base_ = 'tresnet_xl_cifar10.py'

data_root = 'data/cifar100/'
model = dict(head=dict(num_classes=100))
train_dataloader = dict(dataset=dict(name='CIFAR100', data_root=data_root))
val_dataloader = dict(dataset=dict(name='CIFAR100', data_root=data_root))
test_dataloader = val_dataloader
