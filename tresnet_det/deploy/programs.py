"""From a module to a file: a program of torch.export, and ONNX."""

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch.export import Dim, ExportedProgram

from ..errors import InputError
from ..files import replacing, write_whole
from .modules import ExportModule
from .nms import ONNX_TRANSLATIONS

OPSET = 18
_TRACED_SIZE = 320, 448  # nothing is computed while tracing, so that the size costs no time
_LEAST_SIDE = 32  # of TResNet


def trace(module: ExportModule) -> ExportedProgram:
    """Trace a module of ``modules.py`` for any batch, and any sides that ``divisor`` divides.

    Args:
        module: In evaluation mode.

    Raises:
        InputError: If torch.export cannot, as for a model that fixes the batch or a side.
    """
    height, width = (-(-side // module.divisor) * module.divisor for side in _TRACED_SIZE)
    examples = {
        'images': torch.zeros(2, 3, height, width),
        'sizes': torch.tensor([[height, width]] * 2),
        'original_sizes': torch.tensor([[height, width]] * 2),
    }
    inputs = tuple(examples[name] for name in module.input_names)
    try:
        with quiet(), torch.no_grad():
            program = torch.export.export(
                module, inputs, dynamic_shapes=_dynamic_shapes(module), strict=False
            )
    except torch._dynamo.exc.UserError as error:
        reason = ' '.join(str(error).split('For more information')[0].split())
        raise InputError(f'torch.export cannot trace this {module.task}: {reason}') from error
    for node in program.graph.nodes:  # the lines of code that it came from, with local paths
        node.meta.pop('stack_trace', None)
    return program


def _dynamic_shapes(module: ExportModule) -> dict[str, dict]:
    batch = Dim('batch', min=1)
    least = -(-_LEAST_SIDE // module.divisor)
    height, width = (module.divisor * Dim(name, min=least) for name in ('height', 'width'))
    shapes = {'images': {0: batch, 2: height, 3: width}}
    return {name: shapes.get(name, {0: batch}) for name in module.input_names}


def least_side(program: ExportedProgram) -> int:
    """Return the least height and width, in pixels, that a program takes.

    torch.export does not let a size be 1 on the way, which a coarse level's is for small images;
    ONNX has no such limit.
    """
    sides = [
        next(node.meta['val'] for node in program.graph.nodes if node.name == 'images').shape[dim]
        for dim in (2, 3)
    ]
    ranges = program.range_constraints
    return max(
        int(side.node.expr.subs({s: ranges[s].lower for s in side.node.expr.free_symbols}))
        for side in sides
    )


def write_onnx(
    program: ExportedProgram, module: ExportModule, path: str | Path, metadata: Mapping[str, object]
) -> None:
    """Write a traced module as ONNX, whole or not at all.

    Args:
        program: What :func:`trace` made of the module.
        module: Names inputs and outputs.
        path: The file; an existing one is replaced.
        metadata: Plain values, which the file holds as JSON, each by its key.

    Raises:
        InputError: If what writes ONNX is not installed.
    """
    require('onnx', 'onnxscript')
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    with quiet():
        onnx_program = torch.onnx.export(
            program,
            input_names=module.input_names,
            output_names=module.output_names,
            opset_version=OPSET,
            dynamic_shapes=_dynamic_shapes(module),
            custom_translation_table=ONNX_TRANSLATIONS,
            dynamo=True,
            verbose=False,
        )
    assert onnx_program is not None  # which it is without dynamo only
    # Of each node: what it was made from.
    ClearMetadataAndDocStringPass()(onnx_program.model)
    onnx_program.model.metadata_props.update({k: json.dumps(v) for k, v in metadata.items()})
    with replacing(path) as temporary:
        onnx_program.save(temporary, external_data=False)


def write_program(
    program: ExportedProgram, path: str | Path, metadata: Mapping[str, object]
) -> None:
    """Write what ``torch.export.load`` reads, whole or not at all.

    Args:
        program: What :func:`trace` made.
        path: The file; an existing one is replaced.
        metadata: Plain values, as JSON in the extra file ``metadata.json``.
    """
    buffer = io.BytesIO()
    with quiet():
        torch.export.save(program, buffer, extra_files={'metadata.json': json.dumps(metadata)})
    write_whole(path, buffer.getvalue())


def require(*packages: str) -> None:
    """Raise an InputError that says what to install unless these packages are installed."""
    for package in packages:
        try:
            __import__(package)
        except ImportError as error:
            raise InputError(
                f"{package} is not installed: pip install -e '.[export]' installs it"
            ) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what the stack below remarks on itself from the user."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        logging.disable(logging.NOTSET)
