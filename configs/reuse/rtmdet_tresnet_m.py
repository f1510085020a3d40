# RTMDet-l (Lyu et al., 2022) as MMDetection trains it, on TResNet-M.
# As in the base, nothing is frozen and the processes share their statistics (there by SyncBN).
_base_ = 'mmdet::rtmdet/rtmdet_l_8xb32-300e_coco.py'
custom_imports = dict(imports=['tresnet_det'], allow_failed_imports=False)

model = dict(
    data_preprocessor=dict(mean=[0, 0, 0], std=[255, 255, 255], bgr_to_rgb=True),
    backbone=dict(
        _delete_=True,
        type='TResNet',
        arch='m',
        out_indices=(1, 2, 3),
        norm_cfg=dict(type='InPlaceABN', sync=True),
        init_cfg=dict(type='Pretrained', checkpoint='timm://tresnet_m.miil_in1k'),
    ),
    # Its widths are those of its inputs: 80 M parameters, where the base's neck has 24 M.
    neck=dict(in_channels=[128, 1024, 2048]),
)
# norm_decay_mult, which is 0 already, does not see an In-Place ABN.
optim_wrapper = dict(paramwise_cfg=dict(flat_decay_mult=0.0))
