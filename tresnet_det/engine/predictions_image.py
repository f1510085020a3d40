"""An image of what a detector finds or a classifier says, kept with the figures of a test."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmdet.registry import HOOKS
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner


@HOOKS.register_module()
class PredictionsImageHook(Hook):
    """Draw images of a test with the truth beside the prediction.

    Of a detector, the first images. Of a classifier, whose samples have a ``pred_score``,
    images from the first to the last at equal distances: class folders are read one after the
    other, and the first images would show one class. An image that fails is a warning and never
    the end of a test.

    Args:
        limit: How many images; None for 12 of a detector, 24 of a classifier.
        score_thr: In [0, 1]. Boxes with a lower score are not drawn, labels not predicted; of one
            label per image, the surest are listed whatever their score. None for 0.3 of a
            detector, 0.5 of a classifier, the threshold of ``MultiLabelMetric``.
        file_name: The image's name in the work folder.
    """

    def __init__(
        self,
        limit: int | None = None,
        score_thr: float | None = None,
        file_name: str = 'predictions.png',
    ) -> None:
        self.limit = limit
        self.score_thr = score_thr
        self.file_name = file_name
        self.samples: list[Any] = []
        self.seen = 0

    def before_test_epoch(self, runner: Runner) -> None:
        """Forget the samples of an earlier test."""
        self.samples = []
        self.seen = 0

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Sequence = ()
    ) -> None:
        """Keep those of the batch's samples that are to be drawn."""
        for sample in outputs:
            if hasattr(sample, 'pred_score'):
                limit, total = _or(self.limit, 24), _count_images(runner)
                # true of `limit` numbers below the total, at equal distances; of all where few
                is_turn = self.seen * limit % max(total, limit) < limit
            else:
                limit, is_turn = _or(self.limit, 12), True
            if is_turn and len(self.samples) < limit:
                self.samples.append(sample)
            self.seen += 1

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Draw the samples that were kept, on the main process."""
        if not is_main_process() or not self.samples:
            return
        try:
            classes = runner.test_dataloader.dataset.metainfo['classes']
            path = Path(runner.work_dir) / self.file_name
            if hasattr(self.samples[0], 'pred_score'):
                _draw_classifier(self.samples, classes, path, _or(self.score_thr, 0.5))
            else:
                _draw_detector(self.samples, classes, path, _or(self.score_thr, 0.3))
        except Exception as error:  # whatever it is, the figures matter more
            runner.logger.warning(f'{self.file_name} could not be drawn: {error}')


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


def _count_images(runner: Runner) -> int:
    """How many images this process tests; 0 where that is not known before the end."""
    try:
        return len(runner.test_dataloader.sampler)
    except TypeError:
        return 0


# The functions that draw are imported late, since matplotlib takes its time and may be absent.


def _draw_detector(samples: list, classes: Sequence[str], path: Path, score_thr: float) -> None:
    from ..evaluation.sheets import draw_predictions

    has_truth = all('gt_instances' in sample for sample in samples)
    draw_predictions(
        [sample.img_path for sample in samples],
        [sample.pred_instances for sample in samples],
        [sample.gt_instances for sample in samples] if has_truth else None,
        classes,
        path,
        score_thr=score_thr,
        limit=len(samples),
    )


def _draw_classifier(samples: list, classes: Sequence[str], path: Path, score_thr: float) -> None:
    from ..evaluation.sheets import draw_classifications

    scores = torch.stack([sample.pred_score for sample in samples]).float().cpu()
    labels = None
    # Without truth, the scores of one label per image are known by their sum.
    multi_label = not torch.allclose(scores.sum(1), torch.ones(len(scores)), atol=1e-3)
    if all('gt_label' in sample for sample in samples):
        labels = torch.stack([sample.gt_label for sample in samples]).cpu().numpy()
        multi_label = labels.ndim == 2
    draw_classifications(
        [sample.img_path for sample in samples],
        scores.numpy(),
        labels,
        classes,
        path,
        multi_label,
        threshold=score_thr,
        limit=len(samples),
    )
