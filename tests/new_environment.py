"""A new virtual environment with packages from the index, for what must run without ours."""

import subprocess
import sys
from pathlib import Path

import pytest


def install(folder: Path, *packages: object, python: str = sys.executable) -> str:
    """Make an environment by uv, or by pip where uv does not get through; return its Python."""
    subprocess.run([python, '-m', 'venv', folder], check=True)
    python = str(folder / 'bin/python')
    wheels = ['--quiet', '--only-binary', ':all:']
    pip = [python, '-m', 'pip', 'install', *wheels]
    if subprocess.run([*pip, 'uv']).returncode:
        pytest.skip('no package index can be reached')
    uv = [python, '-m', 'uv', 'pip', 'install', '--python', python, *wheels]
    if subprocess.run([*uv, *packages]).returncode:
        subprocess.run([*pip, *packages], check=True)
    return python
