"""Hold an exported file against its model on photos."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.export import ExportedProgram

from ..inference.onnx_runner import OnnxModel
from .agreement import Agreement, compare
from .fuse import fuse_norms
from .photos import ModelAnswers, Photo
from .programs import least_side


class FileCheck:
    """A file and its model, both on the CPU, with the same number of threads.

    Args:
        path: The ``.onnx`` file.
        model: That it was made of, in evaluation mode.
        module: The exported module.
        photos: To compare on, at least one.
    """

    def __init__(
        self, path: str | Path, model: nn.Module, module: nn.Module, photos: Sequence[Photo]
    ) -> None:
        self.runner = OnnxModel(path, torch.get_num_threads(), ['CPUExecutionProvider'])
        self.answers = ModelAnswers(model, module.task, module.output_names)
        self.photos = photos
        self.inputs = [self.runner.collate([p.image], [p.original_size]) for p in photos]
        self.expected = [self.answers(photo) for photo in photos]
        self._max_per_img = getattr(module, 'max_per_img', None)

    @property
    def finds_nothing(self) -> bool:
        """Whether a detector has no box on any photo, so that nothing is compared."""
        return self._max_per_img is not None and not any(len(a['scores']) for a in self.expected)

    def compare_onnx(self) -> dict[str, Agreement]:
        """Return how the file agrees with the model, by what is compared."""
        found = [self.runner.run(batch)[0] for batch in self.inputs]
        return compare(found, self.expected, self._max_per_img)

    def compare_program(self, program: ExportedProgram) -> dict[str, Agreement]:
        """Return the same of a program of torch.export, on the photos that it takes."""
        run, side = program.module(), least_side(program)
        pairs = [
            (self._run_program(run, batch), expected)
            for batch, expected in zip(self.inputs, self.expected, strict=True)
            if min(batch['images'].shape[2:]) >= side
        ]
        return compare(*zip(*pairs, strict=True), self._max_per_img) if pairs else {}

    @torch.inference_mode()
    def _run_program(self, run: Callable, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        outputs = run(*(torch.from_numpy(value) for value in batch.values()))
        names = [output.name for output in self.runner.session.get_outputs()]
        answer = {k: v[0].numpy() for k, v in zip(names, outputs, strict=True)}
        count = answer.pop('num', None)
        return answer if count is None else {k: v[:count] for k, v in answer.items()}

    def image_difference(self) -> float | None:
        """Return the largest difference of the runner's images to those of the config's pipeline.

        In 0..255; infinite where they differ in size, None where the runner does not know the
        pipeline.
        """
        if self.runner.metadata['steps'] is None:
            return None
        differences = [0.0]
        for photo, expected in zip(self.photos, self.inputs, strict=True):
            images = self.runner.prepare([photo.path])['images']
            if images.shape != expected['images'].shape:
                return float('inf')
            differences.append(float(np.abs(images - expected['images']).max()))
        return max(differences)

    def contestants(self) -> dict[str, Callable[[], object]]:
        """Return what runs the first photo: the model, the same folded, and the file.

        The image is prepared already, post-processing is included.
        """
        photo, batch = self.photos[0], self.inputs[0]
        plain = self.answers
        folded = ModelAnswers(fuse_norms(plain.model), plain.task, plain.output_names)
        return {
            'PyTorch': lambda: plain(photo),
            'PyTorch, norms folded': lambda: folded(photo),
            'onnxruntime': lambda: self.runner.run(batch),
        }
