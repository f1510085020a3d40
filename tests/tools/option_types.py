"""Writes ``tresnet_det/cli/options.py`` from the parsers: ``python tests/tools/option_types.py``.

A type checker runs nothing, so that it cannot ask a parser which options there are. The list is
written out for it, and never by hand: a test says where it is not that of the parsers.
"""

import argparse
import contextlib
from pathlib import Path
from unittest import mock

from tresnet_det.cli import command_line, test, train

FILE = Path(command_line.__file__).with_name('options.py')
HEAD = '''"""What ``train`` and ``evaluate`` take by name, for type checkers.

Written by tests/tools/option_types.py from the tools' parsers, which alone decide when it is run.
"""

from collections.abc import Mapping{more}
from os import PathLike
from typing import Any, Literal

from typing_extensions import TypedDict

Text = str | PathLike[str]
'''
NO_OPTIONS = {'config', 'checkpoint', 'help', 'local_rank'}


class ParserFound(Exception):  # noqa: N818  (no error)
    """What a tool would read its command line with."""


def parser_of(tool):
    stop = mock.patch.object(command_line, 'parse_options', side_effect=ParserFound)
    with stop as parse, contextlib.suppress(ParserFound):
        tool.parse_args([])
    return parse.call_args.args[0]


def type_of(action):
    if action.dest == 'cfg_options':
        return 'Mapping[str, Any]'
    if action.nargs == 0:
        return 'bool'
    kind = 'Text' if action.type is None else value_of(action.type)
    if action.choices:
        kind = f'Literal[{", ".join(map(repr, action.choices))}]'
    if isinstance(action, argparse._AppendAction):
        return f'Sequence[{kind}]'
    if action.nargs in ('+', '*'):
        return f'Sequence[{kind}]'
    return f'{kind} | Literal[True] | None' if action.nargs == '?' else f'{kind} | None'


def value_of(convert):
    """Of an option that is converted: which numbers it takes, or a form of its own (1333x800)."""
    for text in ('0.5', '64', 'cpu'):
        with contextlib.suppress(argparse.ArgumentTypeError, ValueError):
            value = convert(text)
            return type(value).__name__ if isinstance(value, int | float | str) else 'int | Text'
    return 'int | Text'


def names_and_types(tool):
    for action in parser_of(tool)._actions:
        if action.dest not in NO_OPTIONS and action.help != argparse.SUPPRESS:
            long = next(text for text in action.option_strings if text.startswith('--'))
            yield long[2:].replace('-', '_'), type_of(action)


def write():
    options = {tool: dict(names_and_types(tool)) for tool in (train, test)}
    shared = dict(options[train].items() & options[test].items())
    text = write_class('Shared', 'TypedDict', 'What both take.', options[train], shared)
    for tool, name in ((train, 'Train'), (test, 'Evaluate')):
        script = tool.__name__.rpartition('.')[2]
        own = options[tool].keys() - shared
        about = f'See ``python -m tresnet_det {script} --help``.'
        text += write_class(f'{name}Options', 'Shared', about, options[tool], own)
    return HEAD.format(more=', Sequence' * ('Sequence[' in text)) + text


def write_class(name, base, about, options, names):
    lines = ''.join(f'    {key}: {kind}\n' for key, kind in options.items() if key in names)
    return f'\n\nclass {name}({base}, total=False):\n    """{about}"""\n\n{lines}'


if __name__ == '__main__':
    FILE.write_text(write())
