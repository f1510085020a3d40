"""Pictures and videos in; drawn pictures, JSON, CSV and masks out.

``tools/predict.py`` is the command line over it.
"""
