"""Each tool starts by itself: the tests' own imports must not be what makes it work."""

import json
import subprocess
import sys

import pytest

TOOLS = (
    'train', 'test', 'evaluate', 'predict', 'embed', 'export', 'check_data', 'benchmark', 'plan',
    'convert_weights', 'publish_weights', 'get_coco', 'make_demo_data', 'voc_to_coco', 'launch',
)  # fmt: skip
BENCHMARKS = ('coco_eval', 'data_pipeline', 'heads', 'reuse_sweep', 'slicing', 'transfer')
# Each file in a fork of a process that has imported what is not of this project, to save its time.
FORKS = """
import contextlib, io, json, os, runpy, sys
import cv2, matplotlib.pyplot, pycocotools.coco, sklearn, torch, torchvision
import torch.utils.tensorboard, mmengine.runner, mmdet

def start(path):
    sys.path[0], sys.argv = os.path.dirname(path), [path, '--help']
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            runpy.run_path(path, run_name='__main__')
        except SystemExit as stop:
            code = stop.code or 0
        except Exception as error:
            code, _ = 1, err.write(repr(error))
    return code, out.getvalue()[:7], err.getvalue()

found = {}
for path in sys.argv[1:]:
    reader, writer = os.pipe()
    if not os.fork():
        try:
            os.write(writer, json.dumps(start(path)).encode()[:60000])
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        found[path] = answer.read()
    os.wait()
print(json.dumps(found))
"""


@pytest.fixture(scope='module')
def started(project_root, tmp_path_factory):
    paths = [f'{project_root}/tools/{name}.py' for name in TOOLS]
    paths += [f'{project_root}/benchmarks/{name}.py' for name in BENCHMARKS]
    for folder in ('tools', 'benchmarks'):
        assert set(map(str, (project_root / folder).glob('*.py'))) <= set(paths)
    command = [sys.executable, '-W', 'ignore', '-c', FORKS, *paths]
    folder = tmp_path_factory.mktemp('elsewhere')
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_help_works_in_a_fresh_process_from_another_folder(started):
    for path, answer in started.items():
        assert answer, f'{path} ended without a word'
        assert json.loads(answer) == [0, 'usage: ', ''], path
