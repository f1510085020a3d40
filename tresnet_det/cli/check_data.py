"""Check a dataset before training on it: all that is wrong, not just the first fault.

  python tools/check_data.py CONFIG [--data-root DIR]       the data of a config
  python tools/check_data.py CONFIG --data FOLDER           what train.py takes by these: COCO,
                                                            Pascal VOC, YOLO (or its data.yaml),
                                                            CSV, class folders, tools' exports
  python tools/check_data.py FOLDER                         the same, by the first task it serves
  python tools/check_data.py ANN_FILE IMG_DIR --val ANN_FILE IMG_DIR
  python tools/check_data.py TRAIN_FOLDER --val VAL_FOLDER  a folder for each class in both
  python tools/check_data.py FOLDER --predictions RESULTS   its labels too, by what a model finds

Exit status 1 where training would fail or its metrics mislead, 0 otherwise (with warnings, too),
2 for a mistake in the command line.
"""

import argparse
import functools
import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from mmengine.config import Config

from ..compat.installed import config_name, own_folder, tool_command
from ..engine import config as edit
from ..engine.own_data import check_masks, filter_of
from ..errors import InputError, MissingFileError, printable, quote, shell_path
from ..evaluation.label_check import check_labels
from ..evaluation.report import format_table
from ..files import write_whole
from ..readers.config import find_config_sources, find_sources
from ..readers.files import YAML
from ..readers.findings import ERROR, LEVELS, NOTE, WARNING, Finding, Findings
from ..readers.kinds import KINDS, first_task
from ..readers.levels import View
from ..readers.prepare import Counts, plan_parts, summarize
from ..readers.report import DataReport, inspect_data
from ..readers.split import Source
from ..tasks import TASKS, find_task
from ..values import check_values
from .command_line import add_cfg_options, out_folder

EXIT_FAULTY = 1
MOST_CLASSES = 100  # in the printed table


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'data',
        nargs='+',
        metavar='DATA',
        help='a config (.py), a folder, or an annotation file (.json, .csv, .txt) with the folder '
        'of its images (looked for around it where it is not given)',
    )
    parser.add_argument(
        '--val', nargs='+', metavar='DATA', help='the validation data, as DATA, but no config'
    )
    parser.add_argument(
        '--data', dest='folder', metavar='FOLDER', help='what train.py CONFIG --data FOLDER takes'
    )
    parser.add_argument(
        '--data-root', metavar='DIR', help="folder of a config's data, laid out like its own"
    )
    add_cfg_options(parser, 'train_dataloader.batch_size=4')
    parser.add_argument(
        '--predictions',
        metavar='RESULTS',
        help="a model's results file of one split (results.bbox.json, results.json, results.csv), "
        'for labels that are probably wrong',
    )
    parser.add_argument(
        '--out-dir',
        metavar='DIR',
        help='gets report.json and data.png, with --predictions suspects.csv and suspects.jpg',
    )
    parser.add_argument(
        '--workers',
        type=int,
        default=len(os.sched_getaffinity(0))
        if hasattr(os, 'sched_getaffinity')
        else os.cpu_count(),
        metavar='N',
        help='processes that read the images, 0 for this one alone (default: %(default)s)',
    )
    parser.add_argument(
        '--no-decode',
        action='store_true',
        help='do not read the images: corrupt ones, wrong sizes and copies are not found',
    )
    parser.add_argument(
        '--limit', type=int, default=3, metavar='N', help='examples shown (default: %(default)s)'
    )
    parser.set_defaults(config=None, task=None, filters={})  # of a folder
    args = parser.parse_args()
    for name in ('data', 'val'):
        if len(getattr(args, name) or ()) > 2:
            parser.error(f'{name} is one path, or an annotation file and a folder')
    for name in ('workers', 'limit'):
        if getattr(args, name) < 0:
            parser.error(f'--{name} must not be negative')
    if args.folder and args.data_root:
        parser.error('argument --data-root: not allowed with argument --data')
    return args


def main() -> None:
    args = parse_args()
    out = None if args.out_dir is None else out_folder(args.out_dir)
    if args.predictions and not Path(args.predictions).is_file():
        raise MissingFileError(f'--predictions: no file at {args.predictions}')
    findings = Findings()
    find = read_config if args.data[0].endswith('.py') else read_paths
    sources, settings = find(args, findings)
    report = inspect_data(
        sources,
        findings,
        read_image=None if args.no_decode else read_image,
        workers=args.workers,
        progress=sys.stderr.isatty(),
        **settings,
    )
    summary = summarize_data(args, report)
    print_report(report, args.limit)
    if args.config:
        print(f'for {args.task}, by {args.config}; for another task give its CONFIG --data FOLDER')
    if summary:
        print(summary)
    if out is not None:
        write(report, out, ' '.join(args.data))
    if args.predictions:
        print_doubts(args, report, out)
    print(f'next: {next_step(args, report)}')
    if report.failed:
        sys.exit(EXIT_FAULTY)


def load_config(args: argparse.Namespace) -> Config:
    cfg = edit.load_config(args.data[0])
    if args.data_root:
        edit.set_data_root(cfg, args.data_root)
    if args.cfg_options:
        edit.override(cfg, args.cfg_options)
    check_values(cfg)
    return cfg


def read_config(args: argparse.Namespace, findings: Findings) -> tuple[list[Source], dict]:
    """Return the datasets of a config's loaders, and what of its model matters to them."""
    if len(args.data) > 1 or args.val:
        raise InputError(f'{args.data[0]} names its data itself: give a config alone')
    cfg = load_config(args)
    if args.folder:
        return read_folder(args.folder, cfg, args, findings)
    sources, seen = [], set()
    for loader in filter(cfg.get, edit.LOADERS):
        name, needs_truth = loader.removesuffix('_dataloader'), edit.needs_ground_truth(cfg, loader)
        found = find_config_sources(
            cfg[loader]['dataset'], name, name == 'train', findings, needs_truth
        )
        # Most configs test on what they validate on.
        sources += [s for s in found if name == 'train' or (s.ann_file, s.folder) not in seen]
        if name != 'train':
            seen |= {(s.ann_file, s.folder) for s in found}
    if not sources and not findings.count(ERROR):
        kinds = sorted({kind for finding in findings.sorted() for kind in finding.examples})
        raise InputError(
            f'{args.data[0]}: has no data that this tool can check: '
            + (', '.join(kinds) or 'no data loader')
        )
    return sources, dict(view=view_of(cfg), num_classes=edit.get_num_classes(cfg))


def view_of(cfg: Config) -> View:
    """Return how a config's detector sees boxes."""
    heads = [*edit.iterate_dicts(cfg.model)]
    head = next((m for m in heads if 'regress_ranges' in m), None)
    head = head or next((m for m in heads if m.get('type') == 'FCOSHead'), {})
    steps = edit.iterate_dicts((cfg.get('train_dataloader') or {}).get('dataset'))
    return View.of_config(steps, head)


def read_folder(
    folder: str, cfg: Config | None, args: argparse.Namespace, findings: Findings
) -> tuple[list[Source], dict]:
    """Return the splits of a folder as ``train.py CONFIG --data FOLDER`` reads them.

    Without a config, it is that of the first task that the layout serves.
    """
    name = find_task(cfg).name if cfg else None
    sources = find_sources(findings, Path(folder), alone=True, task=name)
    if not sources:
        return [], {}
    if cfg is None:
        name = first_task(sources[0].kind)
        file = next(task.config for task in TASKS if task.name == name)
        args.config, cfg = config_name(file), edit.load_config(own_folder('configs') / file)
    args.task, args.filters = name, {}
    for loader in filter(cfg.get, edit.LOADERS):
        role = loader.removesuffix('_dataloader')
        test_mode = {'test_mode': True} if role != 'train' else {}
        args.filters[role] = filter_of({**cfg[loader]['dataset'], **test_mode})
    args.check_masks = functools.partial(check_masks, cfg, Path(folder))
    sources = [replace(s, filter_cfg=args.filters.get(s.name, {})) for s in sources]
    return sources, dict(view=view_of(cfg))


def read_paths(args: argparse.Namespace, findings: Findings) -> tuple[list[Source], dict]:
    """Return the datasets at the paths of the command line."""
    options = ('--data', args.folder), ('--data-root', args.data_root)
    for option, value in (*options, ('--cfg-options', args.cfg_options)):
        if value:
            raise InputError(f'{option} is for a config (.py), and {args.data[0]} is none')
    path = Path(args.data[0])
    if not args.val and len(args.data) == 1 and (path.is_dir() or path.suffix in YAML):
        return read_folder(args.data[0], None, args, findings)
    sources = find_sources(findings, *map(Path, args.data), alone=not args.val)
    if not args.val:
        return sources, {}
    # With both given, their place says what they are for, whatever their names.
    measured, both = find_sources(findings, *map(Path, args.val)), []
    for name, group in (('train', sources), ('val', measured)):
        for source in group:
            own = name if len(group) == 1 else f'{name}/{source.name}'
            both.append(replace(source, name=own, training=name == 'train'))
    return both, {}


def summarize_data(args: argparse.Namespace, report: DataReport) -> str:
    """Return the line that a training prints of the same data; nothing where it would not start."""
    if not args.task or report.failed or not report.parts:
        return ''
    splits = {part.split.name: part.split for part in report.parts}
    try:
        args.check_masks(report.parts[0].split.has_masks)
        parts = plan_parts(splits, args.task)
        counts = {role: Counts.of(split, rows, args.task) for role, (split, rows) in parts.items()}
        return summarize(counts, report.parts[0].split.classes, args.task, args.filters)
    except InputError as error:
        report.parts[0].split.about(report.findings)('nothing-to-learn', [error])
        return ''


def read_image(path: str, detection: bool) -> np.ndarray:
    """Return ``(H, W, 3)`` of uint8, as training reads an image."""
    if detection:
        return _loader()(dict(img_path=path))['img']
    from ..datasets.decode import decode_rgb

    return decode_rgb(path).permute(1, 2, 0).numpy()


@functools.cache
def _loader() -> Callable[[dict], dict]:
    from ..datasets.transforms import LoadImage

    return LoadImage()


def print_report(report: DataReport, limit: int) -> None:
    """Print numbers, classes, sizes of boxes and findings."""
    columns = ('split', 'images', 'boxes', 'ignored', 'labels', 'classes', 'without', 'size')
    rows = [part.numbers() for part in report.parts]
    headings = {'without': 'without annotation', 'size': 'median size'}
    used = [c for c in columns if any(row[c] is not None for row in rows)]
    for part in report.parts:
        source, folder = part.split.source, shell_path(part.split.folder)
        kind, file = KINDS.get(source.kind, 'label list'), shell_path(source.ann_file)
        print(f'{printable(source.name)}: {kind}, {file}, images in {folder}')
    print_table([{headings.get(c, c): row[c] for c in used} for row in rows])
    print_classes(report)
    print_levels(report)
    if not report.decoded:
        print('The images were not read (--no-decode).\n')
    for finding in report.findings.sorted():
        print('\n'.join(format_finding(finding, limit)))
    counts = {level: report.findings.count(level) for level in LEVELS}
    print(', '.join(f'{n} {level}{"s" * (n != 1)}' for level, n in counts.items()), end=': ')
    print(
        'training would fail or mislead'
        if counts[ERROR]
        else 'training can start' + (', the warnings are worth a look' if counts[WARNING] else '')
    )


def next_step(args: argparse.Namespace, report: DataReport) -> str:
    """Return what to do now: the command that trains on what was checked, or what is missing."""
    if report.failed:
        return 'fix the errors, then run this again'
    config, folder = args.config or args.data[0], args.folder
    if args.config:
        folder = args.data[0]
    elif not config.endswith('.py'):
        return 'name these files in a config, as docs/howto/own_data.md shows'
    options = f' --data {quote(folder)}' if folder else ''
    options += f' --data-root {quote(args.data_root)}' if args.data_root else ''
    if args.cfg_options:
        pairs = [quote(f'{key}={value}') for key, value in args.cfg_options.items()]
        options += f' --cfg-options {" ".join(pairs)}'
    return f'{tool_command("train")} {quote(config)}{options}'


def print_table(rows: list[dict]) -> None:
    if rows:
        print(format_table(rows), end='\n\n')


def print_classes(report: DataReport) -> None:
    """Print how many boxes or labels each class has in each split, and in how many images."""
    rows: dict[str, dict] = {}
    for part in report.parts:
        what = 'labels' if part.split.boxes is None else 'boxes'
        for entry in part.classes():
            row = rows.setdefault(entry['name'], {'class': entry['name']})
            row[f'{part.split.name} {what}'] = entry['objects']
            if what == 'boxes':
                row[f'{part.split.name} images'] = entry['images']
    columns = list(dict.fromkeys(key for row in rows.values() for key in row))
    table = [{column: row.get(column) for column in columns} for row in rows.values()]
    print_table(table[:MOST_CLASSES])
    if len(table) > MOST_CLASSES:
        print(f'... {len(table)} classes in all; --out-dir DIR writes all of them to report.json\n')


def print_levels(report: DataReport) -> None:
    """Print how many boxes fall to each level of FCOS."""
    levels, view = report.levels(), report.view
    totals = {part.split.name: len(part.sides) for part in report.parts}
    if not any(totals[name] for name in levels):
        return
    print(
        'Boxes by the level of FCOS that learns them: by half of their longer side in pixels\n'
        f'after the resize to {view.describe()}. Many in the last row: use a larger size.'
    )
    ranges = dict(zip(view.names(), view.pixels(), strict=True))
    ranges['narrow'] = f'a side below {view.strides[0]}: may have no point in it'
    rows = []
    for level, text in ranges.items():
        row: dict = {'level': '' if level == 'narrow' else level, 'pixels': text}
        for name, counts in levels.items():
            row[name] = counts[level]
            row[f'% of {name}'] = f'{100 * counts[level] / max(totals[name], 1):.1f}'
        rows.append(row)
    print_table(rows)


def format_finding(finding: Finding, limit: int) -> list[str]:
    """Return the lines of a finding: how many of what, where, and the suggested fix."""
    _, what, fix = finding.kind
    of = '' if finding.total is None else f' of {finding.total}'
    heading = f'{printable(finding.split)}: {what}: {finding.count}{of} [{finding.code}]'
    lines = [f'{finding.level:<8} {heading}']
    examples = finding.examples[:limit]
    lines += [f'         - {where}' for where in examples]
    if examples and finding.count > len(examples):
        lines.append(f'         - ... {finding.count - len(examples)} more')
    if fix:
        lines.append(f'         {"" if finding.level == NOTE else "-> "}{fix}')
    return lines


def write(report: DataReport, out: Path, title: str) -> None:
    """Write all of it as JSON, and an image where there is something to draw."""
    from ..evaluation.data_charts import draw_data

    path = out / 'report.json'
    write_whole(path, (json.dumps(report.as_dict(), indent=1) + '\n').encode())
    written = [path]
    if report.parts:
        draw_data(report, out / 'data.png', title)
        written.append(out / 'data.png')
    print('written: ' + ', '.join(map(shell_path, written)))


def print_doubts(args: argparse.Namespace, report: DataReport, out: Path | None) -> None:
    """Print and write which labels the predictions speak against."""
    if report.failed or not report.parts:
        print('--predictions: the labels are compared with them once there is no error')
        return
    splits = [part.split for part in report.parts]
    doubts = check_labels(splits, args.task, Path(args.predictions))
    print('', *doubts.lines(), '', sep='\n')
    if out is not None:
        files, failures = doubts.write(out)
        written = [f'written: {", ".join(map(shell_path, files))}'] if files else []
        print(*map(printable, failures), *written, sep='\n')
