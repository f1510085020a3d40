"""The report in a browser: wide and narrow, light and dark, without a network."""

import json
import re
import shutil
import subprocess

import pytest
from test_explain import BOX, measure, write

from tresnet_det.evaluation.explain import explain

BROWSERS = ('chromium', 'chromium-browser', 'google-chrome', 'chrome')
LOOK = """<script>addEventListener('load', () => { const of = getComputedStyle(document.body);
const seen = {width: document.documentElement.scrollWidth, room: innerWidth, ink: of.color,
  paper: of.backgroundColor, text: parseFloat(of.fontSize),
  images: [...document.images].map(i => i.naturalWidth),
  out: [...document.querySelectorAll('p, li, h1, h2, figure')].filter(
    e => e.getBoundingClientRect().right > innerWidth).length};
parent.postMessage(JSON.stringify(seen), '*'); });</script>"""
# No window is narrower than 500 pixels, and a frame in one is.
FRAME = """<script>addEventListener('message', e => {
const pre = document.createElement('pre'); pre.textContent = e.data; document.body.append(pre); });
</script><iframe src="looked_at.html" style="width: {}px; height: 900px; border: 0"></iframe>"""


def brightness(colour):
    parts = [int(part) / 255 for part in re.findall(r'\d+', colour)[:3]]
    linear = [p / 12.92 if p <= 0.04 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.slow
@pytest.mark.parametrize(('width', 'dark'), [(1280, False), (400, True)])
def test_it_is_readable_in_a_browser(width, dark, tmp_path, monkeypatch):
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip('no Chromium on this machine')
    classes = ('ant', 'a class with a very long name', 'cow')
    objects = [(n, 1 + n % 2, BOX) for n in (1, 2, 3)]
    result = measure(
        write(tmp_path, objects, [(1, 2, BOX, 0.9), (2, 2, BOX, 0.8)], classes=classes)
    )
    explain(result, tmp_path, 'a_very_long_name_of_a_file_' * 5)
    page = tmp_path / 'looked_at.html'
    page.write_text((tmp_path / 'report.html').read_text().replace('</head>', f'{LOOK}</head>'))
    frame = tmp_path / 'frame.html'
    frame.write_text(f'<!DOCTYPE html><body>{FRAME.replace("{}", str(width))}</body>')
    command = [
        browser, '--headless=new', '--no-sandbox', '--disable-gpu', '--window-size=1400,1000',
        '--virtual-time-budget=5000',
        '--host-resolver-rules=MAP * ~NOTFOUND', f'--user-data-dir={tmp_path / "profile"}',
        f'--blink-settings=preferredColorScheme={0 if dark else 1}', '--dump-dom',
        frame.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    seen = json.loads(re.search('<pre>({.*})</pre>', done.stdout)[1])
    assert seen['width'] <= seen['room'] == width
    assert seen['out'] == 0
    assert all(seen['images'])
    assert len(seen['images']) == 4
    assert seen['text'] >= 16
    paper = 1.0 if seen['paper'] == 'rgba(0, 0, 0, 0)' else brightness(seen['paper'])
    low, high = sorted((paper, brightness(seen['ink'])))
    assert (high + 0.05) / (low + 0.05) > 7  # contrast, after WCAG
    assert (paper < 0.5) is dark
