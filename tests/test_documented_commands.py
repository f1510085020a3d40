"""Every code block and every command of README.md, CONTRIBUTING.md and docs/, as it stands.

A command's program and options are parsed by the program itself, and the configs, files and extras
that it names are looked up; nothing is downloaded or trained.
What no rule is known for fails: add the rule, or write what can be checked.
"""

import argparse
import ast
import functools
import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import CalledProcessError

import pytest
import setuptools
import torch
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from packaging.requirements import Requirement
from torch.distributed.run import get_args_parser

from tresnet_det.engine.config import load_config
from tresnet_det.errors import InputError

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *sorted((ROOT / 'docs').rglob('*.md'))]
FENCE = re.compile(r'^( *)```(\w*)\n(.*?)^\1```$', re.MULTILINE | re.DOTALL)
SPAN = re.compile(r'`([^`\n]+)`')
PROGRAMS = ('python', 'tresnet-det', 'pip', 'make', 'pytest', 'torchrun', 'srun', 'tensorboard')
NO_CODE = ('text', 'json', 'csv')  # formulas, files, and what a program prints
# Of the shell or the system: only known names are checked.
SYSTEM = {
    'cd', 'cp', 'curl', 'du', 'export', 'git', 'kill', 'ls', 'nvidia-smi', 'sbatch', 'source', '.',
    'cffconvert', 'check-wheel-contents', 'twine',
}  # fmt: skip
# Python blocks that need a training's files, by a text in them: their imports are checked.
NEEDS_FILES = ('work_dirs/', 'data/', 'FILE', 'CHECKPOINT', 'WORK_DIR')


@dataclass(frozen=True)
class Piece:
    """A code block, or a command in a line of text or in a table."""

    place: str
    language: str
    code: str


def find_pieces() -> Iterator[Piece]:
    for document in DOCUMENTS:
        text = document.read_text()
        name = str(document.relative_to(ROOT))
        for block in FENCE.finditer(text):
            place = f'{name}:{text.count(chr(10), 0, block.start()) + 1}'
            yield Piece(place, block[2], re.sub(f'^{block[1]}', '', block[3], flags=re.MULTILINE))
        prose = FENCE.sub(lambda block: '\n' * block[0].count('\n'), text)
        for span in SPAN.finditer(prose):
            place = f'{name}:{prose.count(chr(10), 0, span.start()) + 1}'
            program, _, rest = span[1].partition(' ')
            if program in PROGRAMS and rest and '...' not in rest:
                yield Piece(place, 'shell', span[1])


def split_commands(code: str) -> list[list[str]]:
    """Return the words of each command; one may continue over lines by quotes or a backslash."""
    commands, pending = [], ''
    for line in code.splitlines():
        pending += line
        if pending.endswith('\\'):
            pending = pending[:-1]
            continue
        try:
            lexer = shlex.shlex(pending, posix=True, punctuation_chars='&;|')
            lexer.whitespace_split = True
            words = list(lexer)
        except ValueError:  # inside quotes
            pending += '\n'
            continue
        pending, command = '', []
        for word in [*words, ';']:
            if set(word) <= set('&;|'):
                commands += [command] if command else []
                command = []
            else:
                command.append(word)
    assert not pending, f'unfinished: {pending}'
    return commands


PIECES = list(find_pieces())
COMMANDS = {
    f'{piece.place} {shlex.join(words)}'[:110]: words
    for piece in PIECES
    if piece.language == 'shell'
    for words in split_commands(piece.code)
}
BLOCKS = {piece.place: piece for piece in PIECES if piece.language == 'python'}


def test_every_block_says_what_it_is_and_the_shell_can_read_its_commands():
    known = {'shell', 'python', *NO_CODE}
    assert {p.place: p.language for p in PIECES if p.language not in known} == {}
    for piece in PIECES:
        if piece.language == 'shell' and '\n' in piece.code:
            result = subprocess.run(
                ['bash', '-n'], input=piece.code, text=True, capture_output=True
            )
            assert (result.returncode, result.stderr) == (0, ''), piece.place


@pytest.mark.parametrize('words', COMMANDS.values(), ids=COMMANDS)
def test_a_command_parses(words, monkeypatch):
    monkeypatch.chdir(ROOT)
    check_command(words, monkeypatch)


@pytest.mark.parametrize(
    'command',
    [
        'python tools/train.py configs/fcos_tresnet_m.py --no-such-option',
        'python tools/train.py configs/no_such_config.py',
        'python tools/no_such_tool.py',
        'torchrun --no-such-option tools/train.py configs/fcos_tresnet_m.py',
        "pip install -e '.[no_such_extra]'",
        'make no-such-target',
        'tresnet-det no_such_tool',
        'pytest tests/no_such_test.py',
        'no-such-program --help',
    ],
)
def test_a_wrong_command_does_not_parse(command, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises((AssertionError, SystemExit, OSError, InputError, CalledProcessError)):
        check_command(shlex.split(command), monkeypatch)


def check_command(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    while words and re.match(r'\w+=', words[0]):  # of the environment
        words = words[1:]
    program, *arguments = words
    if program == 'python':
        check_python(arguments, monkeypatch)
    elif program == 'tresnet-det':
        check_python(['-m', 'tresnet_det', *arguments], monkeypatch)
    elif program == 'torchrun':
        options = get_args_parser().parse_args(arguments)
        check_python([options.training_script, *options.training_script_args], monkeypatch)
    elif program == 'srun':
        check_command(arguments[arguments.index('python') :], monkeypatch)
    elif program == 'pip':
        check_pip(arguments, monkeypatch)
    elif program == 'make':
        subprocess.run(['make', '--dry-run', *arguments], check=True, capture_output=True)
    elif program == 'pytest':
        paths = [word.partition('::')[0] for word in arguments if word.startswith('tests')]
        assert all(Path(path).exists() for path in paths), paths
    elif program.startswith('tools/'):
        assert os.access(program, os.X_OK), f'{program} is no program'
    elif program.startswith('.venv/bin/'):
        check_command([program.removeprefix('.venv/bin/'), *arguments], monkeypatch)
    else:
        assert program in SYSTEM | {'build', 'tensorboard'}, f'no rule for {program}'


parse_config = functools.cache(load_config)  # relative to the clone, where commands are checked


class Parsed(BaseException):
    """Ends a program when it has understood its command line."""


def check_python(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a script parse its own options; look up the configs among them."""
    if arguments[0] == '-c':
        ast.parse(arguments[1])
        return
    if arguments in (['-m', 'tresnet_det'], ['-m', 'tresnet_det', '--help']):  # lists the tools
        return
    if arguments[:2] == ['-m', 'tresnet_det']:
        arguments = [f'tools/{arguments[2]}.py', *arguments[3:]]
    elif arguments[0] == '-m':
        check_command(arguments[1:], monkeypatch)
        return
    script, *options = arguments
    parse = argparse.ArgumentParser.parse_args

    def parse_and_end(*args, **kwargs):
        parse(*args, **kwargs)
        raise Parsed

    monkeypatch.setattr(sys, 'argv', [script, *options])
    monkeypatch.setattr(argparse.ArgumentParser, 'parse_args', parse_and_end)
    with pytest.raises(SystemExit if '--help' in options else Parsed):
        runpy.run_path(script, run_name='__main__')
    for option in options:
        made = option.startswith('work_dirs/')  # by a training, as it was run
        if option.endswith('.py') and ('/' in option or '::' in option) and not made:
            parse_config(option)


def check_pip(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Check the extras against setup.py's, and the rest as requirements."""
    known = {}
    monkeypatch.setattr(setuptools, 'setup', known.update)
    runpy.run_path('setup.py')
    command, *rest = arguments
    assert command in ('install', 'uninstall', 'wheel', 'download')
    for word in rest:
        if word.startswith('-') or word == 'constraints.txt':
            continue
        own = re.fullmatch(
            r'(?:\.|(?:dist/)?tresnet_det\S*\.whl|tresnet-det)(?:\[([\w,]+)\])?', word
        )
        if own is None:
            Requirement(word)
        elif own[1]:
            assert set(own[1].split(',')) <= set(known['extras_require']), word


@pytest.mark.parametrize('piece', BLOCKS.values(), ids=BLOCKS)
def test_a_python_block_runs(piece, tmp_path, monkeypatch):
    register_all_modules(init_default_scope=True)
    monkeypatch.chdir(tmp_path)
    if re.search('^_base_ = ', piece.code, re.MULTILINE):
        (tmp_path / 'block.py').write_text(piece.code.replace("'configs/", f"'{ROOT}/configs/"))
        with torch.device('meta'):
            MODELS.build(load_config('block.py').model)
    elif any(text in piece.code for text in NEEDS_FILES):
        tree = ast.parse(piece.code)
        imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        exec(compile(ast.Module(imports, []), piece.place, 'exec'), {})
    else:
        exec(compile(piece.code, piece.place, 'exec'), {'__name__': 'block'})


def test_pythons_own_commands_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    codes = [words[2] for words in COMMANDS.values() if words[:2] == ['python', '-c']]
    assert codes
    for code in codes:
        exec(code, {'__name__': '__main__'})
