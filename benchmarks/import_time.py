"""Measure how long `import tresnet_det` takes beside the parts of the stack that it needs.

  python benchmarks/import_time.py --rounds 15 --out benchmarks/import_time

Each import runs in a process of its own; both take turns, and are compared within their pair. What
counts is CPU time, which others on the machine do not lengthen by waiting.
"""

import argparse
import resource
import subprocess
import sys
from pathlib import Path

import torch

from tresnet_det.cli.arguments import out_file
from tresnet_det.cli.run import run_tool
from tresnet_det.profiling.comparison import flatten
from tresnet_det.profiling.report import Column, describe, format_table, write_csv
from tresnet_det.profiling.settings import Settings
from tresnet_det.profiling.timing import Spread, order_of_round, ratios

IMPORTS = ('import mmdet.registry, mmengine.model', 'import tresnet_det')
COLUMNS = (
    Column('', 'import'),
    Column('CPU seconds', 'seconds'),
    Column('to the first', 'ratio'),
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--rounds', type=int, default=15, help='pairs of imports')
    parser.add_argument('--out', type=Path, metavar='PREFIX', help='write PREFIX.csv')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    settings = Settings(torch.device('cpu'), batch_size=1, rounds=args.rounds, min_seconds=0)
    if args.out:
        out_file(args.out)
    seconds = [[] for _ in IMPORTS]
    for number in range(-1, args.rounds):  # the first fills the file cache
        for index in order_of_round(max(number, 0), len(IMPORTS)):
            spent = cpu_seconds(IMPORTS[index])
            if number >= 0:
                seconds[index].append(spent)
    rows = [
        {'import': code}
        | flatten('seconds', Spread.of(values))
        | flatten('ratio', ratios(values, seconds[0]))
        for code, values in zip(IMPORTS, seconds, strict=True)
    ]
    print(format_table(rows, COLUMNS))
    if args.out:
        header = describe(settings)
        shown = ('machine', 'versions', 'date', 'command')
        header = {'rounds': f'{args.rounds}, interleaved; median (smallest - largest)'} | {
            name: header[name] for name in shown
        }
        write_csv(args.out.with_name(f'{args.out.name}.csv'), rows, header)


def cpu_seconds(code: str) -> float:
    """Return the CPU seconds of a process that runs the code, its start included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, '-c', code], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == '__main__':
    run_tool(main)
