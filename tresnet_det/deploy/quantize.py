"""Int8: convolutions and matrices by onnxruntime's static quantization, behind a gate on accuracy.

Activations are UInt8, weights Int8 for each output channel; what lies between is float: norms of
the head, sigmoid, decoding, top-k, NMS. CPUs without VNNI (AVX2) add two products in 16 bits, which
saturate: there the weights must have 7 bits (``reduce_range``), which other CPUs run as well.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from ..errors import InputError
from ..files import replacing
from ..inference.onnx_runner import OnnxModel
from .programs import quiet

OPERATORS = ('Conv', 'Gemm', 'MatMul')
CPUS = {'any': 'any x86-64 CPU: weights of 7 bits', 'vnni': 'CPUs with VNNI: weights of 8 bits'}


class Images(CalibrationDataReader):
    """Image files, prepared as the file itself says.

    Args:
        model: The file before quantization.
        paths: Of the images.
    """

    def __init__(self, model: OnnxModel, paths: Sequence[Path]) -> None:
        self._inputs: Iterator[dict] = (model.prepare([path]) for path in paths)

    def get_next(self) -> dict | None:
        """Return the next image's inputs, None after the last."""
        return next(self._inputs, None)


class Attempt(NamedTuple):
    """A quantized file.

    Attributes:
        excluded: Groups of operators that are in float.
        metric: Of the file, in [0, 1].
    """

    excluded: tuple[str, ...]
    metric: float


class Quantizer:
    """A file of :func:`~tresnet_det.deploy.write_onnx`, calibrated once and quantized at will.

    Args:
        source: The file; what is written is next to it.
        images: To calibrate on, at least one.
        cpu: One of ``CPUS``.
    """

    def __init__(self, source: Path, images: Sequence[Path], cpu: str) -> None:
        self._source, self._images, self._cpu = source, images, cpu
        self._ranges = source.with_suffix('.ranges')
        graph = onnx.load(source, load_external_data=False).graph
        weights = {tensor.name for tensor in graph.initializer}
        # By the part of the network that the weight is of: backbone.layer1, head.cls_convs, ...
        self._groups: dict[str, list[str]] = {}
        for node in graph.node:
            if node.op_type in OPERATORS and node.input[1] in weights:
                group = '.'.join(node.input[1].split('.')[:2])
                self._groups.setdefault(group, []).append(node.name)
        if not self._groups:
            raise InputError('--int8: the network has no convolution and no matrix of weights')

    def write(self, target: Path, groups: Sequence[str]) -> None:
        """Write the file with these groups of operators in int8."""
        with quiet():
            quantize_static(
                self._source,
                target,
                Images(OnnxModel(self._source), self._images),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(OPERATORS),
                nodes_to_quantize=[name for group in groups for name in self._groups[group]],
                per_channel=True,
                reduce_range=self._cpu != 'vnni',
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibration_cache_path=self._ranges,
            )

    def search(self, target: Path, evaluate: Callable[[Path], float], least: float) -> Attempt:
        """Write the file with as much in int8 as leaves it at least this metric.

        Where all is too much, each group is quantized alone, and those that cost the most stay in
        float, the worst one first. Each attempt is printed.

        Args:
            target: The file; it holds the last attempt.
            evaluate: Returns the metric of a file.
            least: That the metric must be.

        Returns:
            The first that is good enough, or the last, with half of the groups in float.
        """
        groups = tuple(self._groups)

        def attempt(kept: Sequence[str]) -> float:
            self.write(target, kept)
            return evaluate(target)

        found = Attempt((), attempt(groups))
        print(f'  int8 everywhere: {found.metric:.4f}')
        if found.metric >= least or len(groups) == 1:
            return found
        alone = {group: attempt([group]) for group in groups}
        for group, metric in alone.items():
            print(f'    {group} alone in int8: {metric:.4f}')
        worst = sorted(groups, key=alone.__getitem__)
        for count in range(1, len(groups) // 2 + 1):
            excluded = tuple(worst[:count])
            found = Attempt(excluded, attempt([g for g in groups if g not in excluded]))
            print(f'  float: {", ".join(excluded)}: {found.metric:.4f}')
            if found.metric >= least:
                break
        return found


def set_metadata(path: Path, entries: Mapping[str, object]) -> None:
    """Add entries, as JSON, to what a file says of itself."""
    model = onnx.load(path)
    texts = {entry.key: entry.value for entry in model.metadata_props}
    texts |= {key: json.dumps(value) for key, value in entries.items()}
    onnx.helper.set_model_props(model, texts)
    with replacing(path) as temporary:
        onnx.save(model, temporary)
