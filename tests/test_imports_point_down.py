"""Imports of the package point down, not at tools or configs, and form no circle."""

import ast
import functools
import graphlib
from pathlib import Path

import pytest

import tresnet_det

PACKAGE = Path(tresnet_det.__file__).parent
# From the ground up. What shares a floor does not know of each other.
FLOORS = (
    {'errors', 'layers'},
    {'files', 'values'},
    {'compat'},
    {'checkpoints', '__main__'},
    {'backbone'},
    {'models', 'readers'},
    {'datasets'},
    {'evaluation'},
    {'tasks'},
    {'engine'},
    {'inference'},
    {'deploy'},
    {'profiling'},
    {'cli'},
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
FILES = sorted(PACKAGE.rglob('*.py'))


def name_of(path):
    """A file's module, as a tuple of names; a package's ``__init__`` has the package's."""
    parts = path.relative_to(PACKAGE.parent).with_suffix('').parts
    return parts[:-1] if parts[-1] == '__init__' else parts


MODULES = {name_of(path): path for path in FILES}


@functools.cache
def imported(path):
    """The modules that a file imports, at its top or in a function, as tuples of names."""
    package, names = path.relative_to(PACKAGE.parent).parts[:-1], set()
    tree = ast.parse(path.read_text(encoding='utf-8'))
    if path == PACKAGE / '__init__.py':  # names for type checkers, imported when asked for
        tree.body = [n for n in tree.body if not ast.unparse(n).startswith('if TYPE_CHECKING')]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            base += tuple((node.module or '').split('.') if node.module else ())
            for alias in node.names:
                inner = (*base, alias.name)
                names.add(inner if inner in MODULES else base)
        elif isinstance(node, ast.Import):
            names |= {tuple(alias.name.split('.')) for alias in node.names}
    return names


def test_every_room_has_its_floor():
    assert {name[1] for name in MODULES if name[1:]} == set(FLOOR)


@pytest.mark.parametrize('path', FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_it_imports_only_from_below(path):
    names = imported(path)
    assert not {name[0] for name in names} & {'tools', 'configs', 'benchmarks'}
    room = name_of(path)[1:2]
    for other in {name[1] for name in names if name[0] == 'tresnet_det' and name[1:]} - {*room}:
        assert not room or FLOOR[other] < FLOOR[room[0]], f'{room[0]} imports {other}'


def test_imports_form_no_circle():
    """Of all modules, inside a room and between them; a package's ``__init__`` is one of them."""
    graph = {name: imported(path) & set(MODULES) for name, path in MODULES.items()}
    list(graphlib.TopologicalSorter(graph).static_order())  # a CycleError names the circle
