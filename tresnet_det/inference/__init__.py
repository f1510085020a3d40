"""Images and videos in; drawn images, JSON, CSV and masks out.

``tools/predict.py`` is the command line over it.
"""
