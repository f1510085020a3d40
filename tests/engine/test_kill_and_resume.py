"""Killed trainings end where one that was left alone does; twenty of them by hand, see the module."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.parametrize('task', ['fcos', 'multilabel'])
def test_a_killed_training_ends_in_the_bits_of_one_that_was_left_alone(task, tmp_path):
    script = Path(__file__).with_name('kill_and_resume.py')
    # A process of its own: it forks, which threads of this one would not survive.
    command = [sys.executable, script, '--task', task, '--times', '2', '--seed', '1']
    done = subprocess.run(
        [*command, '--folder', tmp_path / 'runs'], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count('tensors equal') == 2
    assert 'killed after' in done.stdout or 'into write' in done.stdout
