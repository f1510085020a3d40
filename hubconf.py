"""Entry points of torch.hub: ``torch.hub.load(CLONE, 'tresnet_m', source='local')``."""

from tresnet_det.backbone import tresnet_l, tresnet_m, tresnet_v2_l, tresnet_xl

__all__ = ['tresnet_l', 'tresnet_m', 'tresnet_v2_l', 'tresnet_xl']

dependencies = ['torch']
