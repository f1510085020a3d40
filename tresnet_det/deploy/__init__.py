"""Deployment: norms folded, and a backbone, a classifier or FCOS as ONNX or a torch.export program.

Importing it registers the operator that a saved program of a detector needs.
"""

from .fuse import fuse_norms
from .modules import TASKS, build_export_module
from .programs import trace, write_onnx, write_program

__all__ = ['TASKS', 'build_export_module', 'fuse_norms', 'trace', 'write_onnx', 'write_program']
