"""tools/plan.py: what it prints and writes, its refusals, and the commands of docs/scale.md."""

import csv
import re
import shlex

import pytest

SPEED = ('--images-per-second', 2000)


@pytest.fixture
def imagenet(project_root):
    return project_root / 'configs' / 'imagenet_tresnet_m.py'


def read_csv(path):
    lines = path.read_text().splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith('#')))


def test_a_plan_is_printed_and_written(run, imagenet, tmp_path):
    done = run('plan', imagenet, *SPEED, '--gpus', 64, 1, '--overlap', 0, '--out', 'a/plan')
    assert done.code == 0, done.err
    assert '300 epochs of 1281167 images' in done.out
    assert 'as given by --images-per-second' in done.out
    assert 'named ones are nominal figures, not measured' in done.out
    one, many = read_csv(tmp_path / 'a' / 'plan.csv')
    assert (one['gpus'], many['gpus']) == ('1', '64')
    # 300 x 10009 steps of 64 ms.
    assert float(one['hours']) == pytest.approx(300 * 10009 * 0.064 / 3600)
    assert float(one['efficiency']) == 1
    assert float(many['efficiency']) < 1
    assert (tmp_path / 'a' / 'plan.png').read_bytes().startswith(b'\x89PNG')
    assert 'plan.csv' in done.out.splitlines()[-1]


def test_options_change_the_config_and_memory_that_is_too_small_is_said(run, imagenet):
    done = run(
        'plan', imagenet, *SPEED, '--gpus', 8, '--gpu-memory', 8,
        '--cfg-options', 'train_dataloader.batch_size=512', 'train_cfg.max_epochs=100',
    )  # fmt: skip
    assert done.code == 0, done.err
    assert '100 epochs of' in done.out
    assert re.search(r'note: 13\.\d GiB do not fit into 8: the largest batch is 2\d\d\n', done.out)


def test_speeds_come_from_a_benchmark_s_file(run, imagenet, project_root):
    speeds = project_root / 'benchmarks' / 'models_cpu.csv'
    done = run('plan', imagenet, '--speeds', speeds, '--gpus', 1)
    assert done.code == 0, done.err
    assert 'tresnet_m at 224 pixels, batch 8, models_cpu.csv: AMD EPYC' in done.out


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--gpus', 0, *SPEED], '0 GPUs cannot train'),
        ([], 'how fast does one GPU train?'),
        ([*SPEED, '--speeds', 'a.csv'], 'how fast does one GPU train?'),
        (['--speeds', 'none.csv'], 'no measured speeds at'),
        ([*SPEED, '--in-node', 'string'], "unknown link 'string'"),
        ([*SPEED, '--num-images', 0], '0 images'),
        ([*SPEED, '--image-kb', -1], '-1000 bytes'),
        ([*SPEED, '--gpus-per-node', 0], 'cannot train'),
        (['--images-per-second', -3], '-3 images/s'),
        ([*SPEED, '--cfg-options', 'model.backbone.arch=n'], 'arch'),
    ],
)
def test_mistakes_are_one_line(run, imagenet, options, message):
    done = run('plan', imagenet, *options)
    assert done.code == 2
    (line,) = done.err.splitlines()
    assert line.startswith('error: ')
    assert message in line


def test_an_unknown_config_is_one_line(run):
    done = run('plan', 'none.py', *SPEED)
    assert (done.code, len(done.err.splitlines())) == (2, 1)
    assert 'no config at' in done.err


@pytest.mark.slow  # each process imports torch
def test_processes_are_held_against_the_plan(run, tmp_path):
    done = run(
        'benchmark', '--processes', 2, '--models', 'timm:resnet18', '--size', 32, '--device', 'cpu',
        '--batch-size', 2, '--rounds', 1, '--min-seconds', 0, '--out', 'processes',
    )  # fmt: skip
    assert done.code == 0, done.err
    assert 'GB/s' in done.out
    rows = read_csv(tmp_path / 'processes.csv')
    assert [row['processes'] for row in rows if row['what'] == 'step'] == ['1', '2']
    assert all(float(row['planned_seconds']) > 0 for row in rows)


@pytest.mark.parametrize(
    'options', [['--device', 'cuda'], ['--device', 'cpu', '--compile'], ['--threads', 2]]
)
def test_processes_refuse_what_they_do_not_measure(run, options):
    done = run('benchmark', '--processes', 2, *options)
    assert done.code == 2
    assert 'a thread each' in done.err


@pytest.fixture
def docs(project_root):
    return (project_root / 'docs' / 'scale.md').read_text()


@pytest.mark.slow
def test_the_docs_commands_run(run, docs, project_root):
    found = re.findall(r'^python tools/plan\.py (.+)$', docs, re.MULTILINE)
    assert len(found) >= 4
    for command in found:
        words = shlex.split(command, comments=True)
        there = [project_root / word for word in words]
        arguments = [p if p.is_file() else w for p, w in zip(there, words, strict=True)]
        done = run('plan', *arguments)
        assert done.code == 0, (command, done.err)


@pytest.mark.slow
def test_the_docs_table_is_what_the_tool_says(run, docs, project_root, tmp_path):
    rows = re.findall(
        r'^\| .+ \| (\d+) \| (\S+) h \| (.+) \| (\S+) \| (\d+) \|$', docs, re.MULTILINE
    )
    configs = [
        'imagenet_tresnet_m', 'imagenet_tresnet_l', 'imagenet_tresnet_xl', 'imagenet21k_tresnet_m',
        'fcos_tresnet_m', 'fcos_tresnet_m_70e', 'multilabel_tresnet_l_448',
    ]  # fmt: skip
    for config, (speed, alone, others, memory, batch) in zip(configs, rows, strict=True):
        path = project_root / 'configs' / f'{config}.py'
        options = ('--images-per-second', speed, '--in-node', 'nvlink2', '--gpus', 1, 8, 64, 1024)
        done = run('plan', path, *options, '--out', 'plan')
        assert done.code == 0, done.err
        one, *many = read_csv(tmp_path / 'plan.csv')
        stated = [float(text) for text in re.findall(r'[\d.]+', others)]
        planned = [float(row[key]) for row in many for key in ('hours', 'hours_max')]
        assert stated == pytest.approx(planned, rel=0.03, abs=0.005), config
        assert float(alone) == pytest.approx(float(one['hours']), abs=0.5), config
        assert float(memory) == pytest.approx(float(many[0]['memory_bytes']) / 2**30, abs=0.06)
        assert batch == one['batch_size']
        # A dagger stands where the tool warns: at 1024 GPUs of all, at 64 of COCO's.
        first = int(re.search(r'from (\d+) GPUs on, a step of', done.out)[1])
        assert others.count('†') == sum(int(row['gpus']) >= first for row in many), config
