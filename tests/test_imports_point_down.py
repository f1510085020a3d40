"""No part of the package imports one that stands above it, nor tools and configs."""

import ast
import graphlib
from pathlib import Path

import pytest

import tresnet_det

PACKAGE = Path(tresnet_det.__file__).parent
# From the ground up. What shares a floor does not know of each other.
FLOORS = (
    {'errors', 'layers', 'files'},
    {'compat'},
    {'checkpoints', '__main__'},
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


def room_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix('.py')


def imported_rooms(path):
    """The rooms that a file imports from, at its top or inside a function."""
    package = ['tresnet_det', *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            names = [*base, *(node.module or '').split('.')] if node.module else base
            if names[:1] == ['tresnet_det']:
                yield from [names[1]] if len(names) > 1 else (alias.name for alias in node.names)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                names = alias.name.split('.')
                if names[0] in ('tools', 'configs'):
                    yield names[0]
                elif names[0] == 'tresnet_det':
                    yield names[1]


def test_every_room_has_its_floor():
    assert {room_of(path) for path in FILES} - {'__init__'} == set(FLOOR)


@pytest.mark.parametrize('path', FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_it_imports_only_from_below(path):
    room = room_of(path)
    if room == '__init__':
        return
    for other in set(imported_rooms(path)) - {room, '__version__'}:
        assert FLOOR[other] < FLOOR[room], f'{room} imports {other}'


def test_inside_the_engine_imports_form_no_circle():
    files = {path.stem: path for path in (PACKAGE / 'engine').glob('*.py')}
    graph = {}
    for name, path in files.items():
        nodes = ast.walk(ast.parse(path.read_text(encoding='utf-8')))
        own = [n for n in nodes if isinstance(n, ast.ImportFrom) and n.level == 1]
        graph[name] = {
            part for n in own for part in ([n.module] if n.module else [a.name for a in n.names])
        }
    order = list(graphlib.TopologicalSorter(graph).static_order())  # a CycleError names the circle
    assert set(order) == set(files)
