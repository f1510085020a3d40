"""The by-hand proof of tests/engine/kill_and_resume.py, a few times."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.parametrize(('task', 'times'), [('fcos', 1), ('multilabel', 2)])
def test_killed_trainings_end_as_one_that_was_left_alone(task, times):
    script = Path(__file__).with_name('kill_and_resume.py')
    # A process of its own: it forks, which threads of other tests would not outlive.
    command = [sys.executable, script, '--task', task, '--times', str(times), '--seed', '5']
    environment = dict(os.environ, OMP_NUM_THREADS='1')
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=3600)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f'{times} trainings, killed ' in result.stdout
    assert 'killed 0 times' not in result.stdout
