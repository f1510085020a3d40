"""What a type checker says of a user's file: the types of results, and mistakes in calls."""

import os
import subprocess
import sys

import pytest

RIGHT = """
from pathlib import Path
from typing import assert_type

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tresnet_det import Predictor, Result, RunResult, evaluate, train

predictor = Predictor('work_dirs/demo', device='cpu')
one = predictor('a.jpg', threshold=0.5)
assert_type(one, Result)
assert_type(one.boxes, NDArray[np.float32] | None)
assert_type(one.scores, NDArray[np.float32])
assert_type(one.labels, NDArray[np.int64])
assert_type(one.names, list[str])
assert_type(one.masks, NDArray[np.bool_] | None)
assert_type(one.plot(), NDArray[np.uint8])
assert_type(predictor(np.zeros((4, 4, 3), np.uint8)), Result)
assert_type(predictor(Image.open('a.jpg')), Result)
assert_type(predictor(Path('a.jpg')), Result)
mixed = predictor(["a.jpg", Path("a.jpg"), np.zeros((4, 4)), Image.open("a.jpg")])
assert_type(mixed, list[Result])
names = ['a.jpg', 'b.jpg']
assert_type(predictor(names), list[Result])
assert_type(train('c.py', data='mine', cfg_options={'a.b': 1}, resume=True), RunResult)
measured = evaluate('work_dirs/demo', data=Path('mine'))
assert_type(measured.metrics, dict[str, float])
assert_type(measured.checkpoint, Path | None)
"""
WRONG = """
result.box
result.scores = result.scores
len(result.boxes)
Predictor('work_dirs/demo')(3)
Predictor('work_dirs/demo')('a.jpg', threshold='low')
Predictor('work_dirs/demo')('a.jpg', channel_order='gbr')
train('c.py', dat='mine')
train('c.py', data=3)
"""
# What these have inside does not matter here, and takes a minute to read.
SKIPPED = ('torch', 'torchvision', 'mmengine', 'mmdet', 'mmcv', 'cv2', 'matplotlib', 'pycocotools')
CONFIG = f"""
[mypy]
[mypy-{','.join(f'{name}.*' for name in SKIPPED)}]
follow_imports = skip
[mypy-tresnet_det.*]
ignore_errors = True
"""


@pytest.mark.slow
def test_types_of_results_are_known_and_wrong_calls_are_found(project_root, tmp_path):
    (tmp_path / 'right.py').write_text(RIGHT)
    head = "from tresnet_det import Predictor, train\nresult = Predictor('work_dirs/demo')('a.jpg')"
    (tmp_path / 'wrong.py').write_text(head + WRONG)
    (tmp_path / 'mypy.ini').write_text(CONFIG)
    command = [sys.executable, '-m', 'mypy', '--cache-dir', 'cache', 'right.py', 'wrong.py']
    # An editable install may be one that is found by code alone, which a type checker does not run.
    env = os.environ | {'MYPYPATH': str(project_root)}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    errors = [line.split(': ')[0] for line in done.stdout.splitlines() if ': error: ' in line]
    wrong = [f'wrong.py:{number}' for number in range(3, 3 + len(WRONG.split('\n')) - 2)]
    assert errors == wrong, done.stdout + done.stderr
