"""The value of ``--cfg-options KEY=VALUE``, in Python's notation or in mmengine's."""

import argparse
import ast
import contextlib
import warnings
from collections.abc import Callable
from typing import Any

from ..errors import shown
from ..readers.findings import is_text
from ..values import find

BRACKETS = {'[': ']', '(': ')', '{': '}'}
WORDS = {'true': True, 'false': False}  # next to Python's


class KeyValueAction(argparse.Action):
    """``KEY=VALUE`` options, as a dict; argparse's own message where one is not of that form."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        options = dict(getattr(namespace, self.dest))
        for text in values:
            key, equals, value = text.partition('=')
            if not equals or not is_text(text):
                parser.error(f'{option_string} takes KEY=VALUE, got {text!r}')
            try:
                options[key] = parse_value(value)
            except (ValueError, KeyError) as error:
                parser.error(f'{option_string} {key}: {shown(value)}: {error.args[0]}')
        setattr(namespace, self.dest, options)


def typed(key: str) -> Callable[[str], Any]:
    """Return a ``type=`` for an option that sets a key of the table of values."""
    row = find(key)
    assert row is not None

    def convert(text: str) -> Any:
        value = _parse_word(text)
        if not row.takes(value):
            raise argparse.ArgumentTypeError(f'{shown(value)}: give {row.words}')
        return value

    return convert


def parse_value(text: str) -> Any:
    """Return what a text means.

    Python's notation is understood at any depth: numbers, quoted text, lists, tuples, dicts, also
    as ``dict(type='AdamW', lr=0.001)``. As in mmengine's, a word needs no quotes (``[a, b/c.png]``)
    and a list no brackets (``1,2``). What is none of it is the text itself.

    Raises:
        ValueError: It begins as a list or a dict, and is none.
    """
    try:
        with warnings.catch_warnings():  # of escapes that Python does not know
            warnings.simplefilter('ignore')
            found = ast.parse(f'[{text}]', mode='eval').body
        if isinstance(found, ast.List) and found.elts:
            values = [_evaluate(part, f'[{text}]') for part in found.elts]
            return values if len(values) > 1 or text.rstrip().endswith(',') else values[0]
    except (SyntaxError, ValueError, MemoryError):  # /a/b, 007, a text with NUL
        pass
    except RecursionError:
        raise ValueError('it is nested too deep') from None
    return _parse_words(text)


def _evaluate(node: ast.expr, source: str) -> Any:
    match node:
        case ast.Constant(value=int() | float() | str() | None):
            return node.value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return -number
        case ast.List(elts=parts):
            return [_evaluate(part, source) for part in parts]
        case ast.Tuple(elts=parts):
            return tuple(_evaluate(part, source) for part in parts)
        case ast.Dict(keys=keys, values=values) if all(keys):
            pairs = zip(filter(None, keys), values, strict=True)
            named = [(_evaluate(key, source), _evaluate(value, source)) for key, value in pairs]
        case ast.Call(func=ast.Name('dict'), args=[], keywords=keywords):
            named = [(word.arg, _evaluate(word.value, source)) for word in keywords]
        case _:
            return _parse_word(ast.get_source_segment(source, node) or '')
    if not all(isinstance(key, str) for key, _ in named):
        raise KeyError('the keys of a dict must be text')
    return dict(named)


def _parse_words(text: str) -> Any:
    """Parse what is not Python's, such as ``[/a/b, /c]``."""
    inner = text.strip()
    if inner[:1] in BRACKETS or inner.startswith('dict('):
        parts = _split(inner[1:-1])
        if inner[-1] != BRACKETS.get(inner[0]) or inner[0] == '{' or parts is None:
            raise ValueError('it is no list or dict: a bracket, a quote or a comma is wrong')
        values = [parse_value(part) for part in parts]
        return tuple(values) if inner[0] == '(' else values
    parts = _split(inner) or []
    return [parse_value(part) for part in parts] if len(parts) > 1 else _parse_word(text)


def _split(text: str) -> list[str] | None:
    """Split at commas outside of brackets; None where the brackets are not even."""
    parts, depth = [''], 0
    for letter in text:
        depth += (letter in BRACKETS) - (letter in BRACKETS.values())
        if letter == ',' and depth == 0:
            parts.append('')
        else:
            parts[-1] += letter
        if depth < 0:
            return None
    return None if depth else [part.strip() for part in parts if part.strip()]


def _parse_word(text: str) -> Any:
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return None if text == 'None' else WORDS.get(text.lower(), text)
