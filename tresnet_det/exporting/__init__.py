"""Export: a backbone, a classifier or FCOS as ONNX and as a program of torch.export.

Importing it registers the operator that a saved program of a detector needs.
"""

from .modules import TASKS, build_export_module
from .programs import trace, write_onnx, write_program

__all__ = ['TASKS', 'build_export_module', 'trace', 'write_onnx', 'write_program']
