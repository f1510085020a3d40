"""What mkdocs adds to the pages of docs/: pages made from the code, and links out of docs/.

The home page is README.md. Every tool's options come from its own parser, every config from its
card and its first comment. Files next to docs/ that pages link to are part of the site, too.
"""

import argparse
import importlib
import itertools
import posixpath
import re
import sys
import textwrap
from pathlib import Path
from typing import Any

import yaml
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
HOME = {'README.md': 'index.md'}
BESIDE = ('benchmarks/*.md', 'benchmarks/*.csv', 'benchmarks/*.png')
SINGLE = ('CONTRIBUTING.md', 'CHANGELOG.md', 'constraints.txt', 'LICENSE')
LINK = re.compile(r'(!?\[[^\]]*\]\()([^)\s#]+)((?:#[^)\s]*)?\))')
ROLE = re.compile(r':(?:mod|class|func|meth|attr):`[~.]*([^`]+)`')


CARDS = {
    card['Config']: card
    for metafile in yaml.safe_load((ROOT / 'model-index.yml').read_text())['Import']
    for card in yaml.safe_load((ROOT / metafile).read_text())['Models']
}
CONFIGS = [
    path.relative_to(ROOT)
    for path in sorted((ROOT / 'configs').rglob('*.py'), key=lambda path: (path.parent, path))
    if path.parent.name != '_base_'
]


class Parsed(BaseException):
    """Carries a tool's parser out of the tool, which would go on to run."""


def on_files(files: Files, config: Any) -> Files:
    """Add the pages and files that are not in docs/."""
    for path in sorted(path for pattern in BESIDE for path in ROOT.glob(pattern)):
        files.append(_copy(path, path.relative_to(ROOT).as_posix(), config))
    for name in SINGLE:
        files.append(_copy(ROOT / name, name, config))
    files.append(_copy(ROOT / 'README.md', 'index.md', config))
    pages = {
        'reference/tools.md': tools_page,
        'reference/configs.md': configs_page,
        'reference/values.md': values_page,
    }
    for uri, make in pages.items():
        files.append(File.generated(config, uri, content=make()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Let links lead to the pages of the site; a file that is not part of it is only named."""
    source = {uri: name for name, uri in HOME.items()}.get(page.file.src_uri)
    place = source or _in_clone(page.file.src_uri)

    def lead(match: re.Match) -> str:
        before, target, after = match.groups()
        if re.match(r'[a-z]+:', target):
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(place), target))
        uri = _on_site(path)
        if uri.startswith('reference/configs.md'):
            after = ')'
        elif files.get_file_from_path(uri) is None:
            return match[0] if (ROOT / path).suffix == '.md' else before[1:-2]
        here = posixpath.dirname(page.file.src_uri)
        return f'{before}{posixpath.relpath(uri, here or ".")}{after}'

    return LINK.sub(lead, markdown)


def on_page_content(html: str, page: Any, config: Any, files: Files) -> str:
    """Show Sphinx's roles in docstrings as code."""
    return re.sub(r':(?:mod|class|func|meth|attr):(<code>)[~.]*', r'\1', html)


def _copy(path: Path, uri: str, config: Any) -> File:
    if uri.endswith('.md'):
        return File.generated(config, uri, content=path.read_text(encoding='utf-8'))
    return File.generated(config, uri, abs_src_path=str(path))


def _in_clone(uri: str) -> str:
    """Return where a page of the site is in the clone."""
    return uri if (ROOT / uri).is_file() else f'docs/{uri}'


def _on_site(path: str) -> str:
    """Return the page or file of the site for a path in the clone."""
    if path in HOME:
        return HOME[path]
    if path.startswith('configs'):
        return f'reference/configs.md{f"#{Path(path).stem}" * (Path(path) in CONFIGS)}'
    return path.removeprefix('docs/')


def tools_page() -> str:
    """Return each tool with its options, as its own parser has them."""
    parts = ['# Tools\n\n`python tools/NAME.py` in a clone, `tresnet-det NAME` anywhere else.\n']
    for path in sorted((ROOT / 'tools').glob('*.py')):
        parser = _parser(path.stem)
        parts.append(f'\n## {path.stem}\n\n{_prose(parser.description or "")}\n')
        for group in parser._action_groups:
            actions = [
                a for a in group._group_actions if a.help != argparse.SUPPRESS and a.dest != 'help'
            ]
            if not actions:
                continue
            parts.append(
                f'\n| {(group.title or "").replace("positional", "").strip()} | |\n|---|---|\n'
            )
            parts += [
                f'| {_names(action, parser)} | {_cell(_help(action, parser))} |\n'
                for action in actions
            ]
    return ''.join(parts)


def _parser(name: str) -> argparse.ArgumentParser:
    """Return the parser that a tool makes for itself."""
    sys.path.insert(0, str(ROOT))
    module = importlib.import_module(f'tresnet_det.cli.{name}')

    def stop(parser: argparse.ArgumentParser, *args: Any, **kwargs: Any) -> None:
        raise Parsed(parser)

    plain, argv = argparse.ArgumentParser.parse_args, sys.argv
    argparse.ArgumentParser.parse_args = stop  # type: ignore[assignment]
    sys.argv = [f'{name}.py']
    try:
        getattr(module, 'parse_args', module.main)()
    except Parsed as parsed:
        return parsed.args[0]
    finally:
        argparse.ArgumentParser.parse_args, sys.argv = plain, argv  # type: ignore[assignment]
        sys.path.remove(str(ROOT))
    raise ValueError(f'tools/{name}.py has no parser')


def _names(action: argparse.Action, parser: argparse.ArgumentParser) -> str:
    value = parser._get_formatter()._format_args(action, (action.metavar or action.dest.upper()))
    if not action.option_strings:
        return f'`{value if action.nargs else action.metavar or action.dest}`'
    value = f' {value}' if action.nargs != 0 else ''
    return ' '.join(f'`{name}{value}`' for name in action.option_strings[:1])


def _help(action: argparse.Action, parser: argparse.ArgumentParser) -> str:
    return parser._get_formatter()._expand_help(action) if action.help else ''


def configs_page() -> str:
    """Return each config with its first comment and what its card says."""
    parts = ['# Configs\n\nActivation memory is that of one image in fp32.\n']
    for folder, configs in itertools.groupby(CONFIGS, lambda path: path.parent):
        parts += [f'\n## {folder}/\n', *map(_config, configs)]
    return ''.join(parts)


def values_page() -> str:
    """Return the table of values that every run has, with their ranges."""
    values = importlib.import_module('tresnet_det.values').VALUES
    head = """# Values of a config

`--cfg-options KEY=VALUE` sets them. Each is checked before anything is built; a wrong one is a line
with its key and its range. `*` stands for any one part of a key, `**` for any number of them.

| key | what it is | give |
|---|---|---|
"""
    rows = [(v.key.replace('|', '` or `'), _cell(v.meaning), _cell(v.words)) for v in values]
    return head + ''.join(f'| `{key}` | {meaning} | {give} |\n' for key, meaning, give in rows)


def _config(path: Path) -> str:
    comment = re.match(r'(?:#.*\n)+', (ROOT / path).read_text())
    text = ' '.join(line.strip('# ') for line in comment[0].splitlines()) if comment else ''
    card = CARDS.get(path.as_posix(), {})
    meta = card.get('Metadata', {})
    rows = []
    if 'Training Data' in meta:
        epochs = f'{meta["Epochs"]} epochs' if 'Epochs' in meta else None
        rows.append(', '.join(filter(None, (meta['Training Data'], epochs, meta.get('Recipe')))))
    if 'Input Size' in meta:
        height, width = meta['Input Size']
        counts = f'{meta["Parameters"] / 1e6:.1f} M parameters, {meta["FLOPs"] / 1e9:.1f} G MACs'
        memory = f'{meta["Kept Bytes"] / 2**20:.0f} MiB of activation memory'
        rows.append(f'{counts} and {memory} at {height} x {width}')
    for result in card.get('Results', ()):
        for key, value in result['Metrics'].items():
            rows += [f'measured here: {key} {value}'] * (value != 'not reproduced')
        published = dict(result.get('Published', {}))
        source = published.pop('Source', None)
        rows += [
            f'published: {key} {value} ([source]({source}))' for key, value in published.items()
        ]
    items = ''.join(f'- {row}\n' for row in rows)
    return f'\n### {path.stem} {{ #{path.stem} }}\n\n{text}\n\n{items}'


def _prose(text: str) -> str:
    """Return a tool's docstring as Markdown: its commands become code."""
    text = ROLE.sub(r'`\1`', text).replace('``', '`').replace('::\n', ':\n')
    text = re.sub(
        r': (python tools/[^.]+\.py.*?)\.?$', r': `\1`', text, count=1, flags=re.MULTILINE
    )

    def as_code(block: re.Match) -> str:
        return f'```text\n{textwrap.dedent(block[0]).rstrip()}\n```\n'

    return re.sub(r'(?:^ +\S.*\n?)+', as_code, text, flags=re.MULTILINE)


def _cell(text: str) -> str:
    return re.sub(r'\s+', ' ', text).replace('|', r'\|').replace('*', r'\*').replace('<', '&lt;')
