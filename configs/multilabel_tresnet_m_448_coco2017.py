# The same on the 2017 split, which detection trains on: data/coco/ as tools/get_coco.py leaves it.
_base_ = 'multilabel_tresnet_m_448.py'

train_dataloader = dict(
    dataset=dict(
        ann_file='annotations/instances_train2017.json', data_prefix=dict(img='train2017/')
    )
)
val_dataloader = dict(
    dataset=dict(ann_file='annotations/instances_val2017.json', data_prefix=dict(img='val2017/'))
)
test_dataloader = val_dataloader
