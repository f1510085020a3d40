"""The data of ``--demo``: handwritten digits on photos, made on the spot."""
