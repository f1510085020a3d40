"""Check detectors on TResNet with real images: does each one build, learn, predict, evaluate?

python benchmarks/reuse_sweep.py --data-root data/coco            # all of configs/reuse
python benchmarks/reuse_sweep.py --data-root data/coco --arch m --size 512 --out sweep.csv

Every detector is its config's own, from scratch and with all stages learning, as the
question is whether it runs. The images are scaled to --size; random croppings and mosaics are
skipped. Where mmcv has no compiled operators, those of tresnet_det.compat are what is tested.
"""

import argparse
import contextlib
import io
import sys
import traceback
from pathlib import Path

import torch
from mmdet.registry import DATASETS, METRICS, MODELS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.logging import MessageHub
from mmengine.registry import init_default_scope
from torch import nn

from tresnet_det import datasets, evaluation  # noqa: F401  (registers what a config may name)
from tresnet_det.cli.command_line import out_file
from tresnet_det.cli.ending import run_tool
from tresnet_det.cli.failures import one_line
from tresnet_det.compat.installed import has_compiled_ops
from tresnet_det.engine import config as edit
from tresnet_det.engine.building import config_errors
from tresnet_det.errors import InputError
from tresnet_det.profiling.detectors import quiet
from tresnet_det.profiling.report import write_csv

REUSE = Path(__file__).resolve().parents[1] / 'configs' / 'reuse'
TINY = dict(depths=(1, 1, 1, 1), width_factor=0.25)
STEPS = ('builds', 'loss', 'gradients', 'predict', 'evaluation')
YES, NOT_REACHED = 'yes', '-'
Row = dict[str, str]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('configs', nargs='*', help='default: all of configs/reuse')
    parser.add_argument(
        '--data-root', default='data/coco', metavar='DIR', help='as COCO is laid out'
    )
    parser.add_argument(
        '--arch',
        choices=['tiny', 'm'],
        default='tiny',
        help='tiny: one block a stage, a quarter of the width; m: TResNet-M (default: tiny)',
    )
    parser.add_argument('--size', type=int, default=256, help='pixels of the longer side')
    parser.add_argument('--num-images', type=int, default=2, help='to train on, and to evaluate')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--out', metavar='FILE', help='write the table as CSV')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    paths = [Path(p) for p in args.configs] or sorted(REUSE.glob('*.py'))
    if args.out:
        out_file(args.out)
    rows = []
    print(header(args))
    print(format_row(dict(detector='detector', **{step: step for step in STEPS})), flush=True)
    for path in paths:
        cfg = edit.load_config(path)
        edit.set_data_root(cfg, args.data_root)
        set_arch(cfg, TINY if args.arch == 'tiny' else args.arch)
        results, error = check_detector(cfg, args.size, args.num_images, args.device)
        rows.append(dict(detector=path.stem, **results))
        print(format_row(rows[-1]), flush=True)
        if error is not None:
            traceback.print_exception(error)
    if args.out:
        write_csv(Path(args.out), rows, {'setup': header(args)})
    if any(row[step] != YES for row in rows for step in STEPS):
        sys.exit(1)


def set_arch(cfg: Config, arch: str | dict) -> None:
    """Change the backbone's arch, and the channels that the neck takes from it.

    Raises:
        InputError: If the backbone is no TResNet.
    """
    kind = (cfg.model.get('backbone') or {}).get('type')
    if kind != 'TResNet':
        raise InputError(f'model.backbone is {kind}: give configs of detectors on TResNet')
    cfg.model.backbone.arch = arch
    backbone = dict(cfg.model.backbone, init_cfg=None)
    cfg.model.neck.in_channels = list(MODELS.build(backbone).out_channels)


def check_detector(
    cfg: Config, size: int, images: int, device: str = 'cpu'
) -> tuple[Row, Exception | None]:
    """Take a detector through one step of training and one evaluation.

    Args:
        cfg: Its config, with the data's place; it is changed.
        size: Pixels of the images' longer side.
        images: How many to train on, and to evaluate.
        device: Where it runs.

    Returns:
        By step of :data:`STEPS` 'yes', or what went wrong, or '-' after that; and the error.
    """
    results = dict.fromkeys(STEPS, NOT_REACHED)
    torch.manual_seed(0)
    prepare(cfg, size, images)
    run = DetectorRun(cfg, device)
    # What the stack prints about reading, initializing and evaluating.
    with quiet('ERROR'), contextlib.redirect_stdout(io.StringIO()):
        for step in STEPS:
            try:
                getattr(run, step)()
            except Exception as error:  # whatever a detector raises belongs into its cell
                results[step] = f'{type(error).__name__}: {one_line(error)}'[:90]
                return results, error
            results[step] = YES
    return results, None


def prepare(cfg: Config, size: int, images: int) -> None:
    """Make a config from scratch, of few and small images, that keeps all predictions."""
    edit.use_random_weights(cfg)
    # Frozen at zero, the last norm of a branch would keep the rest of it from any gradient.
    norm = cfg.model.backbone.get('norm_cfg')
    if norm and not norm.get('requires_grad', True):
        norm.requires_grad = True
    for part in edit.iterate_dicts(cfg.model.get('test_cfg')):
        for key in ('score_thr', 'filter_thr'):
            if key in part:
                part[key] = 0.0  # an untrained detector scores everything low
    with_mask = any(t.get('with_mask') for t in edit.iterate_dicts(cfg.train_dataloader))
    train = next(d for d in edit.iterate_dicts(cfg.train_dataloader) if 'ann_file' in d)
    val = cfg.val_dataloader.dataset
    for transform in edit.iterate_dicts(val.pipeline):
        if transform.get('type') == 'Resize':
            transform['scale'] = (size, size)
        if transform.get('type') == 'Pad' and 'size' in transform:
            transform['size'] = (size, size)
    train.pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations', with_bbox=True, with_mask=with_mask),
        dict(type='Resize', scale=(size, size), keep_ratio=True),
        dict(type='RandomFlip', prob=0.5),
        *(t for t in val.pipeline if t.type == 'Pad'),
        dict(type='PackDetInputs'),
    ]
    train.filter_cfg = dict(filter_empty_gt=True, min_size=32)
    cfg.train_dataloader.dataset = train
    for dataset in (train, val):
        dataset.indices = images


class DetectorRun:
    """The steps of :data:`STEPS`; each one continues from the one before.

    Args:
        cfg: As :func:`prepare` left it.
        device: Where it runs.
    """

    def __init__(self, cfg: Config, device: str) -> None:
        self.cfg = cfg
        self.device = device
        kinds = cfg.val_evaluator.metric
        self.kinds = [kinds] if isinstance(kinds, str) else list(kinds)  # bbox, segm

    def builds(self) -> None:
        init_default_scope('mmdet')
        # Some heads and preprocessors ask how far the training is.
        MessageHub.get_current_instance().update_info_dict(
            dict(epoch=0, iter=0, max_epochs=1, max_iters=1)
        )
        with config_errors():
            self.model = MODELS.build(self.cfg.model)
        self.model.init_weights()
        self.model.to(self.device)

    def loss(self) -> None:
        self.model.train()
        data = load(self.cfg.train_dataloader.dataset)
        data = self.model.data_preprocessor(data, training=True)
        self.total, parts = self.model.parse_losses(self.model(**data, mode='loss'))
        bad = [name for name, value in parts.items() if not torch.isfinite(value).all()]
        require(not bad, f'not finite: {bad}')

    def gradients(self) -> None:
        self.total.backward()
        check_gradients(self.model.backbone)

    def predict(self) -> None:
        self.model.eval()
        data = load(self.cfg.val_dataloader.dataset)
        with torch.no_grad():
            self.samples = self.model.test_step(data)
        require(len(self.samples) == len(data['inputs']), 'not one result for each image')
        for sample in self.samples:
            check_prediction(sample, 'segm' in self.kinds)
        require(any(len(s.pred_instances) for s in self.samples), 'nothing is predicted at all')

    def evaluation(self) -> None:
        with config_errors():
            metric = METRICS.build(self.cfg.val_evaluator)
        metric.dataset_meta = DATASETS.build(self.cfg.val_dataloader.dataset).metainfo
        metric.process({}, [sample.to_dict() for sample in self.samples])
        metrics = metric.evaluate(size=len(self.samples))
        for kind in self.kinds:
            value = metrics.get(f'coco/{kind}_mAP')
            require(value is not None and 0 <= value <= 1, f'coco/{kind}_mAP is {value}')


def load(dataset: Config) -> dict:
    """Return all images of a dataset's config as one batch."""
    with config_errors():
        dataset = DATASETS.build(dataset)
    require(len(dataset) > 0, 'the data has no image with annotations')
    return pseudo_collate([dataset[i] for i in range(len(dataset))])


def check_gradients(backbone: nn.Module) -> None:
    """Check that every parameter has a finite gradient, and that one reaches the stem."""
    for name, parameter in backbone.named_parameters():
        require(parameter.grad is not None, f'{name} has no gradient')
        require(torch.isfinite(parameter.grad).all(), f'the gradient of {name} is not finite')
    require(backbone.conv1.conv.weight.grad.any(), 'no gradient reaches the stem')


def check_prediction(sample, with_masks: bool) -> None:
    """Check an image's predictions for MMDetection's form, in the original image's pixels."""
    found = sample.pred_instances
    count = len(found)
    height, width = sample.ori_shape
    require(found.scores.shape == found.labels.shape == (count,), 'scores or labels')
    require(found.bboxes.shape == (count, 4), f'bboxes {tuple(found.bboxes.shape)}')
    require(torch.isfinite(found.bboxes).all(), 'a box is not finite')
    require(((found.scores >= 0) & (found.scores <= 1)).all(), 'a score outside 0 to 1')
    require(((found.labels >= 0) & (found.labels < 80)).all(), 'a label that is none')
    if with_masks:
        require(found.masks.shape == (count, height, width), f'masks {tuple(found.masks.shape)}')


def require(holds: bool | torch.Tensor, message: str) -> None:
    """Raise an AssertionError with the message where something does not hold."""
    if not holds:
        raise AssertionError(message)


def header(args: argparse.Namespace) -> str:
    operators = 'compiled mmcv' if has_compiled_ops() else 'mmcv without compiled operators'
    where = torch.cuda.get_device_name() if args.device.startswith('cuda') else 'CPU'
    return (
        f'{args.num_images} images of {args.data_root} at {args.size} pixels, arch {args.arch}, '
        f'random weights, {operators}, torch {torch.__version__}, {where}'
    )


def format_row(row: Row) -> str:
    return f'{row["detector"]:28}' + '  '.join(f'{row[step]:10}' for step in STEPS)


if __name__ == '__main__':
    run_tool(main)
