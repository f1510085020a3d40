"""A picture of what a detector finds, kept with the figures of a test."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmdet.registry import HOOKS
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner


@HOOKS.register_module()
class PredictionsPictureHook(Hook):
    """Draw the first pictures of a test with the truth beside the prediction.

    A picture that fails is a warning and never the end of a test.

    Args:
        limit: How many pictures.
        score_thr: Predictions with a lower score, in [0, 1], are not drawn.
        file_name: The picture's name in the work folder.
    """

    def __init__(
        self, limit: int = 12, score_thr: float = 0.3, file_name: str = 'predictions.png'
    ) -> None:
        self.limit = limit
        self.score_thr = score_thr
        self.file_name = file_name
        self.samples: list[Any] = []

    def before_test_epoch(self, runner: Runner) -> None:
        """Forget the samples of an earlier test."""
        self.samples = []

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Sequence = ()
    ) -> None:
        """Keep the batch's samples until there are enough."""
        self.samples += list(outputs)[: self.limit - len(self.samples)]

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Draw the samples that were kept, on the main process."""
        if not is_main_process() or not self.samples:
            return
        try:
            # Here, since matplotlib takes its time and may be absent.
            from ..evaluation.figures import draw_predictions

            has_truth = all('gt_instances' in sample for sample in self.samples)
            draw_predictions(
                [sample.img_path for sample in self.samples],
                [sample.pred_instances for sample in self.samples],
                [sample.gt_instances for sample in self.samples] if has_truth else None,
                runner.test_dataloader.dataset.metainfo['classes'],
                Path(runner.work_dir) / self.file_name,
                score_thr=self.score_thr,
            )
        except Exception as error:  # whatever it is, the figures matter more
            runner.logger.warning(f'{self.file_name} could not be drawn: {error}')
