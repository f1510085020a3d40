from tresnet_det import compat

compat.prepare()
