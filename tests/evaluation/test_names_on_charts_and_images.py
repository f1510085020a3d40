"""Names are data: charts, images, tables, CSV and commands show them as they are."""

import csv
import json
import shlex
import subprocess

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw
from small_coco import small_coco

from tresnet_det.errors import printable, quote
from tresnet_det.evaluation import format_table, plots
from tresnet_det.evaluation.draw import Line, draw_classes, draw_objects
from tresnet_det.evaluation.plots import draw_curves
from tresnet_det.inference.inputs import InputImage
from tresnet_det.inference.outputs import PredictionWriter
from tresnet_det.models import ClsDataSample

# A name, and what a terminal, a chart and an image have of it.
NAMES = {
    '$x^2$ costs $5': None,
    '_hidden_': None,
    '100 % {of} {0} %s %(a)s': None,
    '<b>&amp;</b>': None,
    '"double" and \'single\'': None,
    'back\\slash \\$ \\n': None,
    'a,b;c\td': 'a,b;c\\td',
    'line\nfeed\r': 'line\\nfeed\\r',
    '\x1b[31mred\x07': '\\x1b[31mred\\x07',
    'turned\u202eback': 'turned\\u202eback',
    'كلب': None,
    'שָׁלוֹם': None,
    '# | `code` | *bold*': None,
    '=1+1': None,
}


@pytest.mark.parametrize('name', NAMES)
def test_a_chart_shows_it_as_it_is(name, figures, tmp_path):
    records = [dict(iter=1, loss=1.0), dict(step=1, **{f'{name}/mAP': 0.5})]
    draw_curves(records, tmp_path / 'curves.png', title=name)
    (figure,) = figures
    expected = NAMES[name] or name
    title, entry = figure._suptitle, figure.axes[1].get_legend().get_texts()[0]
    for text, shown in ((title, expected), (entry, f'{expected}/mAP')):
        drawn, is_maths = text._preprocess_math(text.get_text())
        assert (drawn.strip('\u2009'), is_maths) == (shown, False)


@pytest.mark.parametrize('name', NAMES)
def test_an_image_shows_it_as_it_is(name, monkeypatch):
    written = []

    def record(self, xy, text, **options):
        written.append(text)

    monkeypatch.setattr(ImageDraw.ImageDraw, 'text', record)
    image = np.zeros((400, 600, 3), np.uint8)
    draw_objects(image, np.array([[5, 5, 90, 90]]), [Line(name, 0.5)])
    draw_classes(image, [Line(name, 0.5)])
    expected = NAMES[name] or name
    assert written == [f'{expected} 0.50', '0.50', expected]


@pytest.mark.parametrize('name', NAMES)
def test_a_table_and_a_terminal_show_it_in_one_line(name):
    head, rule, row = format_table([{'class': name, 'AP': 0.5}]).split('\n')
    assert row.startswith(printable(name))
    assert printable(name) == (NAMES[name] or name)


@pytest.mark.parametrize('name', [*NAMES, '', '~', 'a b', '\udcff.png'])
def test_a_printed_command_can_be_pasted(name):
    line = f'printf %s {quote(name)}'
    assert printable(line) == line
    done = subprocess.run(['bash', '-c', line], capture_output=True, check=True)
    assert done.stdout == name.encode(errors='surrogateescape')


@given(st.text(st.characters(exclude_characters='\0', exclude_categories=['Cs'])))
def test_what_the_shell_reads_is_the_name(name):
    if printable(name) == name:
        assert shlex.split(quote(name)) == [name]
    assert printable(quote(name)) == quote(name)


def test_files_have_the_names_unchanged(tmp_path):
    sample = ClsDataSample()
    sample.pred_score = np_scores(len(NAMES))
    with PredictionWriter(tmp_path, 'multilabel', list(NAMES), 0.1) as writer:
        for name in NAMES:
            writer.add(InputImage(f'{name}.png', np.zeros((40, 60, 3), np.uint8)), sample)
    with (tmp_path / 'results.csv').open(encoding='utf-8', newline='') as file:
        rows = list(csv.DictReader(file))
    assert {row['file'] for row in rows} == {f'{name}.png' for name in NAMES}
    assert {row['class'] for row in rows} == set(NAMES)
    entries = json.loads((tmp_path / 'results.json').read_text())
    assert {p['class'] for entry in entries for p in entry['predictions']} == set(NAMES)
    assert len(writer.table().splitlines()) == 2 + len(NAMES)
    assert printable(writer.table()) == writer.table().replace('\n', '\\n')


def np_scores(count):
    import torch

    return torch.full((count,), 0.5)


def test_a_letter_that_the_usual_font_lacks_is_drawn_by_one_that_has_it(figures, tmp_path):
    entry = next(e for e in font_manager.fontManager.ttflist if e.name == 'STIXGeneral')
    usual = FT2Font(plots.USUAL).get_charmap()
    letter = next(chr(n) for n in FT2Font(entry.fname).get_charmap() if n not in usual and n > 999)
    text, file = plots.fit_letters(letter)
    assert text == letter
    assert ord(letter) in FT2Font(file).get_charmap()
    draw_curves([dict(iter=1, loss=1.0)], tmp_path / 'a.png', title=f'dog {letter}')
    assert figures[0]._suptitle.get_text() == f'dog {letter}'
    families = figures[0]._suptitle.get_fontfamily()
    assert families[0] == 'DejaVu Sans'
    assert len(families) == 2


def test_a_letter_that_no_font_has_is_its_number_and_one_line(log, figures, tmp_path, monkeypatch):
    monkeypatch.setattr(plots, '_find_font', lambda letter: None)
    monkeypatch.setattr(plots, '_told', set())
    for _ in range(2):
        draw_curves([dict(iter=1, loss=1.0)], tmp_path / 'a.png', title='dog 犬')
        assert plots.fit_letters('dog 犬')[0] == 'dog \\u72ac'
    assert figures[0]._suptitle.get_text() == 'dog \\u72ac'
    (line,) = log
    assert line.startswith('no font on this machine has ')


def test_check_data_prints_and_draws_odd_names_and_a_command_to_paste(run, tmp_path):
    odd = tmp_path / 'my $data\x1b[31m'
    odd.mkdir()
    content = small_coco()
    content['categories'] = [dict(id=3, name='$a\n_'), dict(id=5, name='\x1b[31m{x} 犬')]
    for image in content['images']:
        Image.new('RGB', (40, 30), (image['id'] * 9, 0, 0)).save(odd / image['file_name'])
    (odd / 'train.json').write_text(json.dumps(content))
    result = run('check_data', odd, '--workers', 0, '--out-dir', tmp_path / 'out')
    assert (tmp_path / 'out' / 'data.png').is_file(), result.printed
    assert '\x1b' not in result.printed
    assert '$a\\n_' in result.out
    assert '\\x1b[31m{x} 犬' in result.out
    (line,) = (line for line in result.out.splitlines() if line.startswith('next: '))
    if '--data' in line:
        words = subprocess.run(['bash', '-c', f'printf "%s\\0" {line[6:]}'], capture_output=True)
        assert words.stdout.decode().split('\0')[-2] == str(odd)
