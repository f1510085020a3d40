"""All that is wrong with a data set at once, with counts and an image.

``tools/check_data.py`` is the command line over it. What stops a training before it starts is
:mod:`tresnet_det.datasets.checks`.
"""
