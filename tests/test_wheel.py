"""What an installation without the clone has: the wheel, built from the source distribution."""

import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from new_environment import install

SOURCES = (
    'tresnet_det', 'configs', 'tools', 'setup.py', 'pyproject.toml', 'MANIFEST.in', 'README.md',
    'LICENSE',
)  # fmt: skip

# Offline: setuptools as it is installed here, called as pip calls it without isolation.
BUILD = 'import sys; from setuptools import build_meta as b; getattr(b, sys.argv[1])(sys.argv[2])'


def build(kind, source, out):
    command = [sys.executable, '-c', BUILD, kind, str(out)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (built,) = out.glob('*.whl' if kind == 'build_wheel' else '*.tar.gz')
    return built


@pytest.fixture(scope='module')
def wheel(project_root, tmp_path_factory):
    """The wheel of the sdist of a copy, so that nothing is built in the clone."""
    clone, out = (tmp_path_factory.mktemp(name) for name in ('clone', 'out'))
    for name in SOURCES:
        subprocess.run(['cp', '-r', str(project_root / name), str(clone)], check=True)
    with tarfile.open(build('build_sdist', clone, out)) as archive:
        archive.extractall(clone / 'unpacked', filter='data')
    (source,) = (clone / 'unpacked').iterdir()
    return build('build_wheel', source, out)


@pytest.fixture(scope='module')
def installed(wheel, tmp_path_factory):
    folder = tmp_path_factory.mktemp('site')
    pip = [sys.executable, '-m', 'pip', 'install', '--quiet', '--no-index', '--no-deps']
    subprocess.run([*pip, '--target', folder, wheel], check=True)
    return folder


@pytest.fixture
def run(installed, tmp_path):
    """Run Python in an empty folder, with the installed wheel and without the clone."""

    def run_python(*arguments):
        return subprocess.run(
            [sys.executable, '-P', *arguments],
            cwd=tmp_path,
            env=os.environ | {'PYTHONPATH': str(installed)},
            capture_output=True,
            text=True,
        )

    return run_python


@pytest.mark.slow
def test_it_has_the_package_with_types_the_configs_and_the_tools(wheel, project_root):
    assert wheel.stat().st_size <= 1_000_000
    names = {Path(name) for name in zipfile.ZipFile(wheel).namelist()}
    inside = Path('tresnet_det')
    expected = {inside / 'py.typed'}
    for folder, target in (
        ('tresnet_det', '.'),
        ('configs', 'configs'),
        ('tools', 'tools'),
    ):
        for path in (project_root / folder).rglob('*'):
            if path.is_file() and path.suffix in ('.py', '.yml', '.sh'):
                expected.add(inside / target / path.relative_to(project_root / folder))
    assert {name for name in names if name.parts[0] == 'tresnet_det'} == expected
    others = {name.parts[0] for name in names} - {'tresnet_det'}
    assert len(others) == 1  # the metadata; no tests
    assert others.pop().endswith('.dist-info')


@pytest.mark.slow
def test_its_configs_are_found_from_another_folder(run, installed, tmp_path):
    (tmp_path / 'mine.py').write_text(
        "_base_ = 'tresnet_det::fcos_tresnet_m.py'\nmodel = dict(bbox_head=dict(num_classes=3))\n"
    )
    code = (
        'import tresnet_det\n'
        'from mmengine.config import Config\n'
        'print(tresnet_det.__file__)\n'
        "print(Config.fromfile('tresnet_det::fcos_tresnet_m.py').filename)\n"
        "cfg = Config.fromfile('mine.py')\n"
        'print(cfg.model.backbone.type, cfg.model.bbox_head.num_classes)\n'
    )
    result = run('-c', code)
    assert result.returncode == 0, result.stderr
    where = installed / 'tresnet_det'
    assert result.stdout.splitlines() == [
        str(where / '__init__.py'),
        str(where / 'configs/fcos_tresnet_m.py'),
        'TResNet 3',
    ]


@pytest.mark.slow
def test_its_tools_run_by_their_path(run, installed):
    result = run(str(installed / 'tresnet_det/tools/train.py'), '--help')
    assert result.returncode == 0, result.stderr
    assert '--data-root' in result.stdout


@pytest.mark.slow
def test_the_command_lists_its_tools_and_runs_one(run, installed):
    command = str(installed / 'bin/tresnet-det')
    listed = run(command)
    assert (listed.returncode, listed.stderr) == (0, '')
    assert '  train            Train a model from a config\n' in listed.stdout
    started = run(command, 'check_data', 'nowhere')
    assert (started.returncode, started.stderr.count('\n')) == (2, 1)


@pytest.mark.slow
def test_a_tool_called_by_name_takes_a_config_by_name(run):
    result = run(
        '-m', 'tresnet_det', 'train', 'tresnet_det::fcos_tresnet_m.py',
        '--from-scratch', '--data-root', 'nowhere',
    )  # fmt: skip
    assert result.returncode == 2
    assert result.stderr.count('\n') == 1
    assert 'nowhere' in result.stderr


@pytest.mark.slow
def test_results_are_measured_without_torch(wheel, project_root, tmp_path):
    page = (project_root / 'docs/howto/results_file.md').read_text()
    packages = re.search('`pip install (numpy .*?)`', page)[1].split()
    constraints = '-c', project_root / 'constraints.txt'
    python = install(tmp_path / 'venv', *constraints, *packages)
    subprocess.run([python, '-m', 'pip', 'install', '--quiet', '--no-deps', wheel], check=True)
    box = dict(image_id=1, category_id=1, bbox=[1, 1, 5, 5])
    truth = dict(
        images=[dict(id=1, file_name='1.png', width=9, height=9)],
        categories=[dict(id=1, name='cat')],
        annotations=[dict(box, id=1, area=25, iscrowd=0)],
    )
    for name, content in (('truth', truth), ('results', [dict(box, score=0.9)])):
        (tmp_path / f'{name}.json').write_text(json.dumps(content))
    (tool,) = (tmp_path / 'venv').glob('lib/*/site-packages/tresnet_det/tools/evaluate.py')
    command = [python, tool, 'truth.json', 'results.json']
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert 'bbox mAP 1.000' in result.stdout, result.stderr
    assert (tmp_path / 'evaluation/report.html').is_file()


def find_python(version: str) -> str | None:
    """Return an interpreter of this version that starts, on the path or of pyenv."""
    pyenv = Path(os.environ.get('PYENV_ROOT', Path.home() / '.pyenv'), 'versions')
    for python in (f'python{version}', *pyenv.glob(f'{version}.*/bin/python')):
        try:
            subprocess.run([python, '-c', 'import venv'], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        return str(python)
    return None


@pytest.mark.slow
def test_it_installs_and_trains_on_another_python_that_the_readme_names(
    wheel, project_root, tmp_path
):
    """The suite itself runs on one Python; the workflow on each of them."""
    others = [v for v in ('3.13', '3.12', '3.11') if v != f'3.{sys.version_info.minor}']
    python = next(filter(None, map(find_python, others)), None)
    if python is None:
        pytest.skip(f'none of Python {", ".join(others)} is here')

    constraints = '-c', project_root / 'constraints.txt'
    alone = install(tmp_path / 'venv', *constraints, wheel, python=python)
    code = 'import tresnet_det.backbone as b; print(b.tresnet_m().num_features)'
    code += '; from tresnet_det import TResNet'
    result = subprocess.run([alone, '-c', code], cwd=tmp_path, capture_output=True, text=True)
    assert result.stdout == '2048\n', result.stderr
    assert result.stderr.endswith('is not installed: pip install "tresnet-det[lite]"\n')
    python = install(tmp_path / 'venv', *constraints, f'{wheel}[lite]', python=python)
    command = [
        Path(python).with_name('tresnet-det'), 'train', 'tresnet_det::fcos_tresnet_m.py', '--demo',
        '--cfg-options', 'train_cfg.max_epochs=1', 'train_cfg.val_interval=1',
        'train_dataloader.dataset.indices=16', 'val_dataloader.dataset.indices=8',
    ]  # fmt: skip
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    output = result.stdout
    assert result.returncode == 0, output[-2000:] + result.stderr[-2000:]
    assert 'Trained tresnet_det::fcos_tresnet_m.py' in output
