_base_='/work/main/configs/fcos_tresnet_m.py'
model=dict(backbone=dict(arch=dict(_delete_=True,depths=(1,1,1,1),width_factor=0.25),init_cfg=None,frozen_stages=-1,norm_eval=False),neck=dict(in_channels=[32,256,512],out_channels=64),bbox_head=dict(in_channels=64,feat_channels=64,stacked_convs=1))
train_dataloader=dict(num_workers=0,persistent_workers=False)
val_dataloader=dict(num_workers=0,persistent_workers=False)
test_dataloader=val_dataloader
train_cfg=dict(max_epochs=1)
