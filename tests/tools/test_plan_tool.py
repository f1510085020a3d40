"""tools/plan.py: what it prints and writes, its refusals, and the commands of docs/scale.md."""

import csv
import re

import pytest

SPEED = ('--images-per-second', 2000)


@pytest.fixture
def imagenet(project_root):
    return project_root / 'configs' / 'imagenet_tresnet_m.py'


def read_csv(path):
    lines = path.read_text().splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith('#')))


def test_a_plan_is_printed_and_written(run, imagenet, tmp_path):
    done = run(
        'plan', imagenet, *SPEED, '--gpus', 64, 1, '--overlap', 0, '--price', 2,
        '--gpu-memory', 8, '--out', 'a/plan.csv',
        '--cfg-options', 'train_dataloader.batch_size=512', 'train_cfg.max_epochs=9',
    )  # fmt: skip
    assert done.code == 0, done.err
    assert '9 epochs of 1281167 images' in done.out
    assert 'nominal values, not measured' in done.out
    warning = r'note: on 64 GPUs, 1\d\.\d GiB do not fit into 8: the largest batch is 2\d\d\n'
    assert re.search(warning, done.out)
    one, many = read_csv(tmp_path / 'a' / 'plan.csv')
    assert (one['gpus'], many['gpus']) == ('1', '64')
    # 9 x 2502 steps of 256 ms.
    assert float(one['hours']) == pytest.approx(9 * 2502 * 0.256 / 3600)
    assert float(one['cost']) == pytest.approx(2 * float(one['hours']))
    assert float(one['efficiency']) == 1
    assert float(many['efficiency']) < 1
    assert 'plan.csv' in done.out.splitlines()[-1]


@pytest.mark.slow
def test_the_docs_table_is_what_the_tool_says(run, project_root, tmp_path):
    docs = (project_root / 'docs' / 'scale.md').read_text()
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
        done = run('plan', path, *options, '--out', 'plan.csv')
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
