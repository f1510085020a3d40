"""Train a model from a config: python tools/train.py configs/fcos_tresnet_m.py [--demo]."""

import argparse
import time
from pathlib import Path

from mmdet.utils import setup_cache_size_limit_of_dynamo
from mmengine.logging import print_log
from mmengine.runner import Runner

from tresnet_det.engine import ProgressBarHook, command_line
from tresnet_det.engine import config as edit

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    command_line.add_config_options(parser)
    parser.add_argument(
        '--from-scratch',
        action='store_true',
        help='random weights instead of the pretrained ones that the config names',
    )
    parser.add_argument('--amp', action='store_true', help='train in mixed precision')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate to the real batch size, where the config does not already',
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from this checkpoint, or from the latest one in the work directory',
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    cfg = command_line.prepare_config(args, CONFIGS / '_base_' / 'demo.py')
    if args.from_scratch:
        for change in edit.use_random_weights(cfg):
            print_log(f'--from-scratch: {change}')
    if args.amp:
        edit.enable_amp(cfg)
    if args.auto_scale_lr:
        edit.enable_lr_scaling(cfg)
    if args.resume and not edit.resume_from(cfg, args.resume):
        print_log(f'--resume: no checkpoint in {cfg.work_dir} yet, training starts anew')
    command_line.check_data(cfg, ('train_dataloader', 'val_dataloader'))

    runner = command_line.build_runner(cfg)
    start = time.monotonic()
    try:
        runner.train()
    finally:  # an error's line must not end up behind the bar
        for hook in runner.hooks:
            if isinstance(hook, ProgressBarHook):
                hook.after_train(runner)
    if runner.rank == 0:
        summarize(runner, args, time.monotonic() - start)


def summarize(runner: Runner, args: argparse.Namespace, seconds: float) -> None:
    """Print what came out, where it is, and what to do next; keep it as summary.json."""
    work_dir = Path(runner.work_dir)
    best = runner.message_hub.get_info('best_score') if has_best(runner) else None
    checkpoint = find_checkpoint(runner)
    command_line.write_summary(work_dir, args.config, checkpoint, best, seconds)
    demo = ' --demo' if args.demo else ''
    print(f'\nTrained {args.config}{demo} in {command_line.minutes(seconds)}')
    if best is not None:
        print(f'  best bbox mAP  {best:.3f}')
    print(f'  checkpoint     {checkpoint}')
    if (work_dir / 'curves.png').is_file():
        print(f'  curves         {work_dir / "curves.png"}')
    print(f'  next           python tools/test.py {args.config} {checkpoint}{data_options(args)}')


def has_best(runner: Runner) -> bool:
    return 'best_score' in runner.message_hub.runtime_info


def find_checkpoint(runner: Runner) -> str:
    """Return the best checkpoint where validation chose one, the last one elsewhere."""
    info = runner.message_hub.runtime_info
    return info.get('best_ckpt') or info.get('last_ckpt') or f'none in {runner.work_dir}'


def data_options(args: argparse.Namespace) -> str:
    """Return the options that make test.py read the data that this run validated on."""
    options = ' --demo' if args.demo else ''
    return options + (f' --data-root {args.data_root}' if args.data_root else '')


if __name__ == '__main__':
    setup_cache_size_limit_of_dynamo()
    command_line.run_tool(main)
