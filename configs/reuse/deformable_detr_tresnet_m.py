# Deformable DETR (Zhu et al., 2021) as MMDetection trains it, on TResNet-M.
# The norms are frozen, as in the base, so nothing decays them. (Its custom key for the backbone
# would keep flat_decay_mult from them.)
_base_ = 'mmdet::deformable_detr/deformable-detr_r50_16xb2-50e_coco.py'
custom_imports = dict(imports=['tresnet_det'], allow_failed_imports=False)

model = dict(
    data_preprocessor=dict(mean=[0, 0, 0], std=[255, 255, 255], bgr_to_rgb=True),
    backbone=dict(
        _delete_=True,
        type='TResNet',
        arch='m',
        out_indices=(1, 2, 3),
        frozen_stages=1,
        norm_eval=True,
        norm_cfg=dict(type='InPlaceABN', requires_grad=False),
        init_cfg=dict(type='Pretrained', checkpoint='timm://tresnet_m.miil_in1k'),
    ),
    neck=dict(in_channels=[128, 1024, 2048]),
)
