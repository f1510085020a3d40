# Batch norm and leaky ReLU instead of In-Place ABN: the same function, so the published weights
# serve; what differs is the memory and the time of training.
_base_ = '../fcos_tresnet_m.py'

model = dict(backbone=dict(norm_cfg=dict(type='BN')))
