# TResNet-L on the 102 classes of Oxford Flowers at 368 pixels. The paper's result is 99.1 %. Its
# training set has 1020 images; validation and test are torchvision's splits of those names.
_base_ = 'tresnet_l_stanford_cars.py'

data_root = 'data/oxford_flowers/'
model = dict(head=dict(num_classes=102))
train_dataloader = dict(dataset=dict(name='Flowers102', data_root=data_root))
val_dataloader = dict(dataset=dict(name='Flowers102', data_root=data_root, split='val'))
test_dataloader = dict(dataset=dict(name='Flowers102', data_root=data_root, split='test'))
