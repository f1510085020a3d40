"""What the README states in figures, held against the models and against timm's own registry."""

import re

import pytest
import timm

from tresnet_det import TResNet

ROW = re.compile(
    r'^\| `timm://(?P<name>\S+)` \| `(?P<arch>\w+)` \| (?P<size>\d+) \| (?P<classes>\d+) '
    r'\| (?P<top1>[\d.]*) ?\| (?P<parameters>[\d.]+) M \|$',
    re.MULTILINE,
)


@pytest.fixture(scope='module')
def readme(project_root):
    return (project_root / 'README.md').read_text()


def test_the_table_of_weights_names_every_tresnet_that_timm_has(readme):
    names = [row['name'] for row in ROW.finditer(readme)]
    assert sorted(names) == sorted(timm.list_pretrained('tresnet*'))


def test_sizes_classes_and_parameters_of_the_weights_are_those_of_the_models(readme):
    parameters = {}
    for row in ROW.finditer(readme):
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


def test_its_files_and_configs_are_there(readme, project_root):
    for target in re.findall(r'\]\((?!http)([^)#]+)\)', readme):
        assert (project_root / target).exists(), target
    for script in set(re.findall(r'python (tools/\w+\.py)', readme)):
        assert (project_root / script).is_file(), script
