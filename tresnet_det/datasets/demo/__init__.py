"""The data of ``--demo``: handwritten digits on photographs, made on the spot."""
