"""The numbers and links of README.md and docs/: those of the models, of timm and of benchmarks/."""

import csv
import re

import pytest
import timm

from tresnet_det import TResNet
from tresnet_det.engine import config as edit

ROW = re.compile(
    r'^\| `timm://(?P<name>\S+)` \| `(?P<arch>\w+)` \| (?P<size>\d+) \| (?P<classes>\d+) '
    r'\| (?P<top1>[\d.]*) ?\| (?P<parameters>[\d.]+) M \|$',
    re.MULTILINE,
)


@pytest.fixture(scope='module')
def readme(project_root):
    return (project_root / 'README.md').read_text()


@pytest.fixture(scope='module')
def models(project_root):
    return (project_root / 'docs' / 'models.md').read_text()


def test_the_table_of_weights_names_every_tresnet_that_timm_has(models):
    names = [row['name'] for row in ROW.finditer(models)]
    assert sorted(names) == sorted(timm.list_pretrained('tresnet*'))


def test_sizes_classes_and_parameters_of_the_weights_are_those_of_the_models(models):
    parameters = {}
    for row in ROW.finditer(models):
        published = timm.get_pretrained_cfg(row['name'])
        assert published.num_classes == int(row['classes']), row['name']
        assert published.input_size[-1] == int(row['size']), row['name']
        assert (published.mean, published.std) == ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
        arch = row['arch']
        if arch not in parameters:
            backbone = TResNet(arch=arch)
            parameters[arch] = (
                backbone.out_channels[-1],
                sum(p.numel() for p in backbone.parameters()),
            )
        width, count = parameters[arch]
        millions = (count + (width + 1) * int(row['classes'])) / 1e6
        assert f'{millions:.1f}' == row['parameters'], row['name']


def test_links_lead_to_files(project_root):
    for page in (project_root / 'README.md', *(project_root / 'docs').rglob('*.md')):
        for target in re.findall(r'\]\((?!http|#)([^)#]+)[^)]*\)', page.read_text()):
            assert (page.parent / target).exists(), f'{page.name}: {target}'


def test_the_readme_is_short(readme):
    assert len(readme.splitlines()) <= 150


def test_the_config_for_your_own_data_reaches_every_loader_and_evaluator(project_root, tmp_path):
    page = (project_root / 'docs' / 'howto' / 'own_data.md').read_text()
    (code,) = re.findall(r'```python\n(.*?)```', page, re.DOTALL)
    path = tmp_path / 'mine.py'
    path.write_text(code.replace("'configs/", f"'{project_root}/configs/"))
    cfg = edit.load_config(path)
    assert edit.get_num_classes(cfg) == 2
    for name in ('train', 'val', 'test'):
        dataset = cfg[f'{name}_dataloader'].dataset
        assert (dataset.type, dataset.data_root) == ('CocoDataset', 'data/mine/')
        assert dataset.metainfo.classes == ('cat', 'dog')
    assert cfg.test_evaluator.type == 'CocoTwelveMetric'
    assert cfg.test_evaluator.ann_file == 'data/mine/val.json'


def measured(project_root, name):
    """The rows of a file in benchmarks/, by the model's name."""
    lines = (project_root / 'benchmarks' / f'{name}.csv').read_text().splitlines()
    rows = csv.DictReader(line for line in lines if not line.startswith('#'))
    return {row['model']: row for row in rows}


def kept(row):
    return f'{float(row["kept_bytes_per_image"]) / 2**20:.1f}'


def ratio(row, what):
    median, low, high = (float(row[f'{what}_ratio{end}']) for end in ('', '_min', '_max'))
    return f'{median:.2f} ({low:.2f} - {high:.2f})'


def test_memory_is_that_of_the_benchmark(readme, project_root):
    rows = measured(project_root, 'readme_cpu')
    resnet, ours = (kept(rows[name]) for name in ('timm:resnet50', 'tresnet_m'))
    name = 'activation memory per image at 224 pixels, ResNet-50 / TResNet-M'
    assert f'| {name} | {resnet} / {ours} MiB |' in readme


def test_the_page_on_performance_has_the_numbers_of_the_benchmarks(project_root):
    page = (project_root / 'docs' / 'performance.md').read_text()
    row = measured(project_root, 'timm_cpu')['tresnet_m']
    for what in ('training', 'inference'):
        assert f'| {what} | {ratio(row, what)} |' in page
    rows = measured(project_root, 'recompute_cpu')
    for name, model in (('recompute_outputs', 'recompute'), ('with_cp', 'cp')):
        row, plain = rows[f'tresnet_m_{model}'], rows['tresnet_m']
        cells = f'| `{name}=True` | {kept(row)} of {kept(plain)} | {ratio(row, "training")} |'
        assert cells in page
