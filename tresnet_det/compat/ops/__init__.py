"""The operators of a compiled mmcv through torchvision and PyTorch; ``extension`` lists them."""
