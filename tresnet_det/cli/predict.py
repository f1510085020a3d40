"""Predict images: python tools/predict.py CONFIG CHECKPOINT INPUT [INPUT ...].

Or with a training's work directory in place of both: python tools/predict.py WORK_DIR INPUT ...
"""

import argparse
import sys
import time
from pathlib import Path

from tqdm import tqdm

from ..engine import config as edit
from ..engine.work_dir import find_checkpoint, find_run_config
from ..errors import InputError, printable, quote, shell_path
from ..inference.inputs import count_images, find_sources, find_unsearched, read_images
from ..inference.onnx_runner import LabellingFiles
from ..inference.outputs import CocoIds, PredictionWriter
from ..inference.predictor import BATCH_SIZE, Predictor
from ..tasks import find_task
from . import command_line
from .command_line import add_cfg_options, out_folder, positive, share
from .failures import one_line


def parse_args() -> argparse.Namespace:
    summary, _, other_form = __doc__.partition('\n\n')
    parser = argparse.ArgumentParser(description=summary, epilog=other_form)
    parser.add_argument(
        'config',
        help="config file; or a training's work directory, which stands for CHECKPOINT too",
    )
    parser.add_argument(
        'checkpoint',
        nargs='?',
        help='checkpoint file, or a work directory for the best checkpoint in it',
    )
    parser.add_argument(
        'inputs',
        nargs='*',
        metavar='input',
        help='images and videos: files, folders, patterns such as "DIR/**/*.jpg", and URLs of '
        'images',
    )
    parser.add_argument(
        '--out-dir',
        metavar='DIR',
        help="where the results go (otherwise predict/ in the checkpoint's work directory, or "
        'predictions/)',
    )
    parser.add_argument(
        '--score-thr',
        type=lambda text: text if text == 'auto' else share(text),
        metavar='SCORE',
        help='boxes and masks from this score (otherwise 0.3) and labels above it (otherwise 0.5) '
        "are shown; results.bbox.json and results.segm.json have all of the model's. auto: those "
        'of the classes that test.py --keep-thresholds wrote into the checkpoint',
    )
    parser.add_argument(
        '--top',
        type=positive,
        default=3,
        help='of single-label classification, list the top-k classes (3)',
    )
    parser.add_argument(
        '--batch-size', type=positive, default=BATCH_SIZE, help=f'images at once ({BATCH_SIZE})'
    )
    command_line.add_slice_options(parser)
    parser.add_argument('--device', help='cpu, cuda:0, ... (otherwise a GPU where there is one)')
    parser.add_argument(
        '--format',
        nargs='+',
        choices=LabellingFiles.FORMATS,
        default=[],
        help='also write what is shown as labelling tools read it, to be corrected there',
    )
    parser.add_argument('--no-images', action='store_true', help='draw nothing')
    parser.add_argument(
        '--video-stride', type=positive, default=1, metavar='N', help='every N-th frame (1)'
    )
    parser.add_argument(
        '--ann-file',
        metavar='FILE',
        help="COCO annotations with the images' ids, so that boxes and masks can be evaluated",
    )
    parser.add_argument(
        '--strict',
        action='store_true',
        help='end with an error where an image was skipped; the others are predicted all the same',
    )
    add_cfg_options(parser, 'model.test_cfg.score_thr=0.01')
    args = parser.parse_args()
    if Path(args.config).is_dir() and args.checkpoint:
        args.inputs.insert(0, args.checkpoint)
        args.checkpoint = args.config
        args.config = str(find_run_config(args.config))
    if not args.inputs:
        parser.error('give at least one image, folder, pattern, video or URL')
    return args


def main() -> None:
    args = parse_args()
    sources = find_sources(args.inputs)
    for pattern in find_unsearched(args.inputs):
        print(f'note: folders below are not searched; their images too: {quote(pattern)}')
    checkpoint = find_checkpoint(args.checkpoint)
    cfg = edit.load_config(args.config)
    if args.cfg_options:
        edit.override(cfg, args.cfg_options)
    edit.check_parts(cfg)
    out = out_folder(args.out_dir or _default_folder(Path(checkpoint).parent))
    task = find_task(cfg)
    if args.ann_file and not task.detects:
        raise InputError('--ann-file is for detectors: omit it')
    if not task.detects and (boxes_only := {'coco', 'yolo'} & set(args.format)):
        raise InputError(f'--format {min(boxes_only)} is for boxes: give csv, labelme, labelstudio')
    predictor = Predictor(cfg, checkpoint, args.device, args.slice, args.overlap)
    ids = CocoIds(args.ann_file, predictor.classes)
    ids.check(sources)
    thresholds = predictor.choose_thresholds(args.score_thr)

    writer = PredictionWriter(
        *(out, task.name, predictor.classes, thresholds, args.top, not args.no_images, ids),
        args.format,
    )
    skipped = 0
    start = time.monotonic()
    total = count_images(sources, args.video_stride)
    # Shown where stderr is a terminal.
    bar = tqdm(total=total, unit='image', disable=None, dynamic_ncols=True, file=sys.stderr)

    def report(name: str, error: Exception) -> None:
        nonlocal skipped
        skipped += 1
        bar.write(f'skipped {printable(one_line(error))}', file=sys.stderr)
        bar.update()

    with bar, writer:
        images = read_images(sources, predictor.read, report, args.video_stride)
        for image, sample in predictor.stream(images, report, args.batch_size):
            writer.add(image, sample)
            bar.update()

    summarize(writer, predictor, checkpoint, time.monotonic() - start)
    if skipped:
        line = f'{skipped} of {skipped + writer.count} could not be predicted, as named above'
        if args.strict:
            raise InputError(line)
        print(line, file=sys.stderr)


def summarize(
    writer: PredictionWriter, predictor: Predictor, checkpoint: str, seconds: float
) -> None:
    """Print what was found and where it is."""
    print(writer.table())
    print(
        f'\nPredicted {writer.count} images by {shell_path(checkpoint)} on '
        f'{predictor.device} in {command_line.minutes(seconds)}'
    )
    print(f'  results   {shell_path(writer.results)}')
    if writer.masks:
        print(f'  masks     {shell_path(writer.masks)}')
    if writer.images:
        print(f'  images    {shell_path(writer.images)}')
    if others := writer.others():
        first = shell_path(others[0])
        print(f'  earlier   {len(others)} files there are not of this run, such as {first}')


def _default_folder(folder: Path) -> Path:
    """Next to the results of a training, but not next to any other file."""
    return folder / 'predict' if (folder / 'last_checkpoint').is_file() else Path('predictions')
