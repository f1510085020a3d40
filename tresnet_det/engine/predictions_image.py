"""An image of what a detector finds or a classifier predicts, kept with the metrics of a test."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmdet.registry import HOOKS
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ..tasks import MULTI_LABEL, find_model_task


@HOOKS.register_module()
class PredictionsImageHook(Hook):
    """Draw images of a test with the ground truth next to the prediction.

    Of a detector, the first images. Of a classifier, images from the first to the last at equal
    distances: class folders are read one after the other, and the first images would show one
    class. An image that fails is a warning and never the end of a test.

    Args:
        limit: How many images; None for the number of the model's task.
        score_thr: In [0, 1]. Boxes with a lower score are not drawn, labels not predicted; of
            single-label classification, the top classes are listed whatever their score. None for
            the threshold of the model's task.
        file_name: The image's name in the work folder; None to leave drawing to :meth:`draw`.
    """

    def __init__(
        self,
        limit: int | None = None,
        score_thr: float | None = None,
        file_name: str | None = 'predictions.png',
    ) -> None:
        self.limit = limit
        self.score_thr = score_thr
        self.file_name = file_name
        self.samples: list[Any] = []
        self.seen = 0

    def before_test_epoch(self, runner: Runner) -> None:
        """Forget the samples of an earlier test."""
        self.task = find_model_task(runner.model)
        self.samples = []
        self.seen = 0

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Sequence = ()
    ) -> None:
        """Keep those of the batch's samples that are to be drawn."""
        limit = self.task.drawn if self.limit is None else self.limit
        # Of a classifier, `limit` numbers below the total, at equal distances; all where few.
        total = max(1, limit, 0 if self.task.detects else _count_images(runner))
        for sample in outputs:
            if self.seen * limit % total < limit and len(self.samples) < limit:
                self.samples.append(sample)
            self.seen += 1

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Draw the samples that were kept, on the main process."""
        if self.file_name is not None:
            self.draw(runner, Path(runner.work_dir) / self.file_name)

    def draw(self, runner: Runner, out: Path, score_thr: float | None = None) -> None:
        """Draw the samples that were kept, on the main process; a failure is a warning.

        Args:
            runner: That of the test.
            out: The image to write.
            score_thr: Where the hook has none of its own.
        """
        if not is_main_process() or not self.samples:
            return
        # Here, since matplotlib takes its time and may be absent.
        from ..evaluation.draw import draw_classifications, draw_detections

        given = (self.score_thr, score_thr, self.task.threshold)
        threshold = next(value for value in given if value is not None)
        try:
            classes = runner.test_dataloader.dataset.metainfo['classes']
            if self.task.detects:
                draw_detections(self.samples, classes, out, threshold)
            else:
                several = self.task is MULTI_LABEL
                draw_classifications(self.samples, classes, out, several, threshold)
        except Exception as error:  # whatever it is, the metrics matter more
            runner.logger.warning(f'{out.name} could not be drawn: {error}')


def _count_images(runner: Runner) -> int:
    """How many images this process tests; 0 where that is not known before the end."""
    try:
        return len(runner.test_dataloader.sampler)
    except TypeError:
        return 0
