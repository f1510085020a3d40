"""Measure what a start from other weights is worth on little data: blood cells and hand signs.

  python tools/voc_to_coco.py data/bccd/BCCD data/bccd
  python benchmarks/transfer.py --bccd data/bccd --signs data/sign_digits
  python benchmarks/transfer.py --table

Each network is trained on the embedded digits first, as a classifier and as a detector. Then from
scratch, from each of these, and from each with a frozen backbone, on 10, 30 and 100 % of the
training images (drawn by the seed): all by one recipe and the same number of steps. A line
is appended to the CSV for each training; those that are in it are not repeated.
"""

import argparse
import csv
import json
import shutil
import time
from itertools import product
from pathlib import Path

import numpy as np
from mmengine.config import Config
from scipy.stats import t as student

import tresnet_det  # noqa: F401  (registers)
from tresnet_det.engine import building
from tresnet_det.engine import config as edit
from tresnet_det.engine.work_dir import find_checkpoint
from tresnet_det.tasks import DETECTION, SINGLE_LABEL

SMALL = dict(depths=(2, 2, 2, 1), width_factor=0.5)
# Backbone, and its channels at strides 8, 16 and 32.
NETWORKS = {
    'small TResNet': (dict(type='TResNet', arch=SMALL), (64, 512, 1024)),
    'TResNet-M': (dict(type='TResNet', arch='m'), (128, 1024, 2048)),
    'ResNet-50': (dict(type='ResNet', depth=50, zero_init_residual=True), (512, 1024, 2048)),
}
RESNET_INPUT = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
STARTS = (
    'from scratch',
    'digit classifier',
    'digit detector',
    'digit classifier, frozen',
    'digit detector, frozen',
)
SHARES = (0.1, 0.3, 1.0)
CELLS = ('Platelets', 'RBC', 'WBC')
FIELDS = ('data', 'network', 'start', 'share', 'images', 'seed', 'metric', 'value', 'minutes')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--bccd', type=Path, default=Path('data/bccd'))
    parser.add_argument('--signs', type=Path, default=Path('data/sign_digits'))
    parser.add_argument('--networks', nargs='+', default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument('--shares', nargs='+', type=float, default=SHARES, choices=SHARES)
    parser.add_argument('--starts', nargs='+', default=STARTS, choices=STARTS)
    parser.add_argument('--seeds', type=int, default=3)
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/transfer'))
    parser.add_argument('--out', type=Path, default=Path('benchmarks/transfer.csv'))
    parser.add_argument('--table', action='store_true', help='print the CSV as tables')
    return parser.parse_args()


def make_config(network: str, task: str, work_dir: Path, seed: int) -> Config:
    """Return the demo's config of a task, on one of the networks."""
    names = {'detection': 'fcos_tresnet_m.py', 'single_label': 'imagenet_tresnet_m.py'}
    cfg = edit.load_config(f'tresnet_det::{names[task]}')
    overlay = {'detection': DETECTION, 'single_label': SINGLE_LABEL}[task].overlay
    edit.use_demo(cfg, edit.load_config(overlay), full=False)
    backbone, channels = NETWORKS[network]
    indices = (1, 2, 3) if task == 'detection' else (3,)
    part = dict(backbone=dict(backbone, _delete_=True, out_indices=indices))
    if task == 'detection':
        part['neck'] = dict(in_channels=list(channels))
    else:
        part['head'] = dict(in_channels=channels[-1])
    if backbone['type'] == 'ResNet':
        norm_cfg = dict(type='BN', requires_grad=True)
        part['backbone'].update(norm_cfg=norm_cfg, norm_eval=False, style='pytorch')
        part['data_preprocessor'] = RESNET_INPUT
    cfg.merge_from_dict(dict(model=part))
    if network != 'small TResNet':  # which learns at five times the rate
        cfg.optim_wrapper.optimizer.lr = 0.0007
    for name in edit.LOADERS:
        cfg[name].update(num_workers=0, persistent_workers=False)
    cfg.randomness = dict(seed=seed)
    cfg.work_dir = str(work_dir)
    return cfg


def pretrain(network: str, task: str, folder: Path) -> str:
    """Train a network on the embedded digits, once; return the checkpoint."""
    work_dir = folder / f'{network} {task}'.replace(' ', '_')
    if not (work_dir / 'done').is_file():
        cfg = make_config(network, task, work_dir, seed=0)
        data = SINGLE_LABEL if task == 'single_label' else DETECTION
        edit.set_data_root(cfg, data.make_demo(str(folder / f'data_{task}')))
        cfg.train_cfg.update(max_epochs=4, val_interval=2)
        building.build_runner(cfg).train()
        (work_dir / 'done').touch()
    return find_checkpoint(work_dir)


def use_cells(cfg: Config, root: Path, share: float, seed: int) -> int:
    """Take a share of the blood cells' training images, and the test images to measure."""
    content = json.loads((root / 'annotations/instances_train.json').read_text())
    order = np.random.default_rng(seed).permutation(len(content['images']))
    content['images'] = [content['images'][n] for n in order[: round(share * len(order))]]
    kept = {image['id'] for image in content['images']}
    content['annotations'] = [a for a in content['annotations'] if a['image_id'] in kept]
    ann_file = Path(cfg.work_dir, 'train.json').absolute()
    ann_file.write_text(json.dumps(content))
    test_file = str((root / 'annotations/instances_test.json').absolute())
    part = dict(
        data_root=str(root.absolute()),
        metainfo=dict(classes=CELLS),
        data_prefix=dict(img='BCCD/JPEGImages/'),
    )
    cfg.train_dataloader.dataset.update(part, ann_file=str(ann_file))
    cfg.val_dataloader.dataset.update(part, ann_file=test_file)
    cfg.val_evaluator.ann_file = test_file
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        for step in loader.dataset.pipeline:
            if step.type == 'Resize':
                step.scale = (128, 96)
    cfg.train_dataloader.dataset.pipeline.insert(3, dict(type='RandomFlip', prob=0.5))
    edit.set_num_classes(cfg, len(CELLS))
    return len(kept)


def use_signs(cfg: Config, root: Path, share: float, seed: int) -> int:
    """Take a share of each hand sign's training images."""
    folder = Path(cfg.work_dir, 'data')
    rng, count = np.random.default_rng(seed), 0
    for of_class in sorted((root / 'train').iterdir()):
        files = sorted(of_class.iterdir())
        name = f'sign {of_class.name}'  # no name of the digits': they would be matched by it
        target = folder / 'train' / name
        target.mkdir(parents=True)
        for n in rng.permutation(len(files))[: max(1, round(share * len(files)))]:
            (target / files[n].name).symlink_to(files[n].absolute())
            count += 1
        (folder / 'val').mkdir(exist_ok=True)
        (folder / 'val' / name).symlink_to((root / 'val' / of_class.name).absolute())
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.dataset.update(data_root=str(folder), metainfo=None)
    return count


def train(args: argparse.Namespace, network: str, data: str, start: str, share: float, seed: int):
    """Train once; return the images used, the metric's name and its value."""
    task = 'detection' if data == 'blood cells' else 'single_label'
    work_dir = args.work_dir / 'run'
    shutil.rmtree(work_dir, ignore_errors=True)
    work_dir.mkdir(parents=True)
    cfg = make_config(network, task, work_dir, seed)
    use = use_cells if task == 'detection' else use_signs
    images = use(cfg, args.bccd if task == 'detection' else args.signs, share, seed)
    steps = 100
    cfg.train_cfg = dict(type='ResumableIterTrainLoop', max_iters=steps, val_interval=steps)
    cfg.train_dataloader.sampler = dict(type='InfiniteSampler', shuffle=True)
    frozen = start.endswith('frozen')
    # Where only the linear layer learns, 0.001 is too little in 100 steps.
    only_linear = frozen and task != 'detection'
    cfg.optim_wrapper.optimizer.lr = 0.01 if only_linear else 0.001
    cfg.log_processor.by_epoch = False
    cfg.default_hooks.checkpoint = None
    cfg.custom_hooks = [h for h in cfg.custom_hooks if h.type not in ('EMAHook', 'CurvesHook')]
    if start != 'from scratch':
        source = 'detection' if 'detector' in start else 'single_label'
        checkpoint = pretrain(network, source, args.work_dir)
        edit.use_backbone_weights(cfg, checkpoint)
        building.choose_weights(cfg, None, checkpoint)
    if frozen:
        cfg.model.backbone.update(frozen_stages=4, norm_eval=True)
    runner = building.build_runner(cfg)
    runner.train()
    metric = DETECTION.headline if task == 'detection' else SINGLE_LABEL.headline
    return images, metric, runner.message_hub.get_scalar(f'val/{metric}').current()


def run(args: argparse.Namespace) -> None:
    rows = read(args.out)
    done = {tuple(row[key] for key in FIELDS[:4]) + (row['seed'],) for row in rows}
    data_names = ('blood cells', 'hand signs')
    grid = product(range(args.seeds), args.networks, data_names, args.shares, args.starts)
    for seed, network, data, share, start in grid:
        if (data, network, start, str(share), str(seed)) in done:
            continue
        began = time.monotonic()
        images, metric, value = train(args, network, data, start, share, seed)
        row = (data, network, start, share, images, seed, metric, value)
        with args.out.open('a', newline='') as file:
            writer = csv.writer(file)
            if not file.tell():
                writer.writerow(FIELDS)
            writer.writerow([*row, f'{(time.monotonic() - began) / 60:.2f}'])


def read(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(newline='') as file:
        return list(csv.DictReader(file))


def print_tables(path: Path) -> None:
    """Print means, and gains over a start from scratch of the same seed, with 95 % intervals."""
    rows = read(path)
    for data, network in dict.fromkeys((row['data'], row['network']) for row in rows):
        head = ' | '.join(f'{share:.0%} | gain' for share in SHARES)
        print(f'\n{data}, {network}\n\n| start | {head} |\n|---{"|---" * 6}|')
        digits = 3 if data == 'blood cells' else 1
        for start in STARTS:
            cells = []
            for share in SHARES:
                values, scratch = (
                    {
                        row['seed']: float(row['value'])
                        for row in rows
                        if tuple(row[k] for k in FIELDS[:4]) == (data, network, name, str(share))
                    }
                    for name in (start, STARTS[0])
                )
                gains = [value - scratch[seed] for seed, value in values.items() if seed in scratch]
                cells.append(interval(list(values.values()), digits))
                cells.append(interval(gains, digits, '+') if start != STARTS[0] else '')
            print(f'| {start} | {" | ".join(cells)} |')


def interval(values: list[float], digits: int, sign: str = '') -> str:
    """Return mean and 95 % interval of the mean (Student's t over the seeds)."""
    if len(values) < 2:
        return ' '.join(f'{value:{sign}.{digits}f}' for value in values)
    error = np.std(values, ddof=1) / len(values) ** 0.5
    half = student.ppf(0.975, len(values) - 1) * error
    return f'{np.mean(values):{sign}.{digits}f} ± {half:.{digits}f}'


def main() -> None:
    args = parse_args()
    if args.table:
        print_tables(args.out)
    else:
        run(args)


if __name__ == '__main__':
    main()
