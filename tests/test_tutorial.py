"""The tutorial's commands, one after the other, on its own data: with a smaller network."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from tool_runs import ROOT, TINY_ARCH, run_here

PAGE = (ROOT / 'docs' / 'tutorial.md').read_text()
NOT_HERE = re.compile(r'# needs a GPU|# downloads')
SETUP = ('make', '.')  # the environment that the tests run in
SMALL = [
    '--cfg-options',
    f'model.backbone.arch={dict(TINY_ARCH)}',
    'model.backbone.out_indices=[2]',
    'model.neck.in_channels=[256]',
    'model.neck.out_channels=32',
    'model.neck.num_outs=1',
    'model.bbox_head.strides=[16]',
    'model.bbox_head.regress_ranges=[(-1,1e8)]',
    'model.bbox_head.in_channels=32',
    'model.bbox_head.feat_channels=64',
    'model.bbox_head.stacked_convs=1',
]


def commands():
    """The commands of the page, in order, without those that are marked."""
    for block in re.findall(r'```shell\n(.*?)```', PAGE, re.DOTALL):
        for line in block.replace('\\\n', ' ').splitlines():
            if not NOT_HERE.search(line) and line.split()[0] not in SETUP:
                yield shlex.split(line)


@pytest.mark.slow
def test_it_leads_from_a_folder_to_an_int8_file_that_runs_without_pytorch(tmp_path, monkeypatch):
    for name in ('configs', 'tools', 'tresnet_det'):
        (tmp_path / name).symlink_to(ROOT / name)
    for python, script, *arguments in commands():
        assert python == 'python'
        tool = Path(script).stem
        if script.startswith('tools/'):
            result = run_here(tool, *arguments, *SMALL * (tool == 'train'), cwd=tmp_path)
            assert result.code == 0, result.printed
        else:
            command = [sys.executable, script, *arguments]
            printed = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True).stdout
            assert b'data/tour/val2017/000001.png' in printed
        if tool == 'check_data':
            assert re.search(r'```text\n(data: .*?)\n```', PAGE)[1] in result.printed
    (code,) = re.findall(r'```python\n(.*?)```', PAGE, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, 'tutorial', 'exec'), {})
    work_dir = tmp_path / 'work_dirs' / 'tour'
    expected = ('curves.png', 'test/evaluation/report.html', 'found/results.bbox.json', 'tour.onnx')
    for name in expected:
        assert (work_dir / name).exists(), name
    assert (tmp_path / 'found.png').is_file()
