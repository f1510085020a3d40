import tresnet_det  # noqa: F401  (mmcv.ops, which the tests import, needs it first)
