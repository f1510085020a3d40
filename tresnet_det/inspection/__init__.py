"""All that is wrong with a dataset at once, with counts and an image.

``tools/check_data.py`` is the command line over it. The readers, whose findings also stop a
training before it starts, are in :mod:`tresnet_det.readers`.
"""
