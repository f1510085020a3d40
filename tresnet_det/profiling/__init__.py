"""What a model costs: parameters, MACs, bytes kept for backward, memory, speed.

``tools/benchmark.py`` is the command line over it.
"""
