"""docs/tour.ipynb runs from its first cell to its last, and is stored as such a run left it."""

import os
import sys
from pathlib import Path

import nbclient
import nbformat
import pytest
from tool_runs import ROOT

NOTEBOOK = nbformat.read(ROOT / 'docs' / 'tour.ipynb', as_version=4)


def kinds(notebook):
    """What each code cell shows: kinds of data, and the file that it wrote."""
    cells = [cell for cell in notebook.cells if cell.cell_type == 'code']
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    return [{key for out in cell.outputs for key in out.get('data', {})} for cell in cells]


def test_its_stored_outputs_name_no_machine():
    assert sum('image/png' in shown for shown in kinds(NOTEBOOK)) >= 4
    outputs = [out for cell in NOTEBOOK.cells for out in cell.get('outputs', [])]
    texts = [out.get('text') or out.data.get('text/plain') for out in outputs]
    for word in (str(ROOT), str(Path.home()), '/tmp/', 'Traceback'):
        assert not any(word in text for text in texts)


@pytest.mark.slow
def test_it_runs_and_shows_what_is_stored(tmp_path, monkeypatch):
    monkeypatch.setenv('PATH', f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}')
    for name in ('configs', 'tools', 'tresnet_det', 'docs'):
        (tmp_path / name).symlink_to(ROOT / name)
    notebook = nbformat.from_dict(NOTEBOOK)
    resources = dict(metadata=dict(path=tmp_path))
    nbclient.NotebookClient(notebook, timeout=600, resources=resources).execute()
    assert kinds(notebook) == kinds(NOTEBOOK)
    metrics = [
        cell.outputs[-1].data['text/plain'] for cell in notebook.cells if '.metrics' in cell.source
    ]
    trained, tested = float(metrics[0]), metrics[1]
    assert f"'coco/bbox_mAP': {trained}" in tested
    assert trained > 0.3
