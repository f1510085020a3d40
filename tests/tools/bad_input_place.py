"""A folder with small data in every layout, and the tools run on it in this process."""

import json
from pathlib import Path

import torch
from PIL import Image
from small_coco import small_coco
from tool_runs import run_here

from tresnet_det.cli.failures import one_line
from tresnet_det.errors import InputError

CONFIG = """
custom_imports = dict(imports=['tresnet_det.engine', 'tresnet_det.datasets'])
default_scope = 'mmdet'
model = dict(
    type='FCOS',
    data_preprocessor=dict(type='DetDataPreprocessor', mean=[0] * 3, std=[255] * 3),
    backbone=dict(
        type='TResNet', arch=dict(depths=(1, 1, 1, 1), width_factor=0.25), out_indices=(3,)
    ),
    neck=dict(type='FPN', in_channels=[512], out_channels=32, num_outs=1),
    bbox_head=dict(
        type='FCOSHead', num_classes=2, in_channels=32, feat_channels=32, strides=[32],
        stacked_convs=1,
    ),
)
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='CocoDataset',
        data_root='coco',
        ann_file='annotations/instances_train.json',
        data_prefix=dict(img='train/'),
        metainfo=dict(classes=('cat', 'dog')),
        pipeline=[dict(type='LoadImage'), dict(type='PackDetInputs')],
    ),
)
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=1)
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01))
test_dataloader = train_dataloader
test_evaluator = dict(type='CocoMetric', ann_file='coco/annotations/instances_train.json')
test_cfg = dict()
"""
CLASSIFIER = """
custom_imports = dict(imports=['tresnet_det.engine', 'tresnet_det.datasets'])
default_scope = 'mmdet'
model = dict(
    type='ImageClassifier',
    backbone=dict(type='TResNet', arch=dict(depths=(1, 1, 1, 1), width_factor=0.25)),
    head=dict(type='LinearClsHead', num_classes=2, in_channels=512, loss=dict(type='{loss}')),
)
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='{dataset}', data_root='{data_root}', ann_file='{ann_file}'),
)
test_dataloader = train_dataloader
"""
XML = (
    '<annotation><size><width>40</width><height>30</height></size><object><name>cat</name><bndbox>'
    '<xmin>1</xmin><ymin>1</ymin><xmax>40</xmax><ymax>30</ymax></bndbox></object></annotation>'
)
YAML = 'train: images/train\nval: images/val\nnames: [cat, dog]\n'


CASES = []  # (group, what is wrong, the command, the function)


def cases(group, members):
    """Register mistakes of a group: what is wrong, the command that meets it, a function."""
    CASES.extend((group, *member) for member in members)


def met(call):
    """Return what the tools would print of an error that the package raises."""
    try:
        call()
    except InputError as error:
        return f'error: {one_line(error)}'
    raise AssertionError('nothing was raised')


class BadPlace:
    """A folder to put bad input into, which is the current one meanwhile.

    Args:
        root: An empty folder.
    """

    def __init__(self, root):
        self.root = Path(root)

    def write(self, name, content):
        """Write text, bytes, or what is to be JSON; returns the file's name."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not isinstance(content, (str, bytes)):
            content = json.dumps(content)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return name

    def image(self, name, size=(40, 30)):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', size).save(path)
        return name

    def config(self, text=CONFIG, **values):
        text = text.format(**values) if values else text
        return self.write('config.py', text)

    def coco(self, change=None, raw=None):
        """COCO data, with a change to its content or to the bytes of its file."""
        content = small_coco([(7, 3, [0, 0, 40, 30], 0), (9, 5, [5, 5, 9, 9], 0)])
        if change:
            change(content)
        data = json.dumps(content).encode()
        self.write('coco/annotations/instances_train.json', raw(data) if raw else data)
        for name in ('a', 'b'):
            self.image(f'coco/train/{name}.png')
        return 'coco'

    def voc(self, xml=XML, members='a\nb\n'):
        for name in ('a', 'b'):
            self.image(f'voc/JPEGImages/{name}.png')
            self.write(f'voc/Annotations/{name}.xml', XML)
        self.write('voc/Annotations/a.xml', xml)
        self.write('voc/ImageSets/Main/train.txt', members)
        return 'voc'

    def yolo(self, rows='0 0.5 0.5 1 1\n', yaml=YAML):
        for split in ('train', 'val'):
            self.image(f'yolo/images/{split}/{split}.png')
            self.write(f'yolo/labels/{split}/{split}.txt', '1 0.5 0.5 0.5 0.5\n')
        self.write('yolo/labels/train/train.txt', rows)
        self.write('yolo/data.yaml', yaml)
        return 'yolo'

    def csv(self, text, name='csv/train.csv'):
        for image in ('a', 'b'):
            self.image(f'csv/{image}.png')
        self.write(name, text)
        return 'csv'

    def classes(self, *names):
        for name in names:
            self.image(f'classes/{name}/a.png')
            self.image(f'classes/{name}/b.png')
        return 'classes'

    def checkpoint(self, name='best.pth', **content):
        torch.save(content or dict(state_dict={}), self.root / name)
        return name

    def train(self, *arguments):
        """tools/train.py on COCO data, or on what the arguments name."""
        return self.run('train', self.config(), '--work-dir', 'work', *arguments)

    def classify(self, dataset, loss='CrossEntropyLoss', data_root='.', ann_file='', *arguments):
        """tools/train.py on a classifier's data."""
        values = dict(dataset=dataset, loss=loss, data_root=data_root, ann_file=ann_file)
        config = self.config(CLASSIFIER, **values)
        return self.run('train', config, '--work-dir', 'work', *arguments)

    def run(self, tool, *arguments):
        """Run a tool; returns the line in which it tells what is wrong.

        Raises:
            AssertionError: It tells nothing, or shows a traceback.
        """
        result = run_here(tool, *arguments, cwd=self.root)
        starts = ('error: ', 'skipped ', f'{tool}.py: ')
        told = [line for line in result.printed.splitlines() if line.startswith(starts)]
        assert told, result.printed
        assert 'Traceback' not in result.printed
        return told[-1]
