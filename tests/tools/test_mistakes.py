"""What the tools report of a wrong option; bad_input.md has the lines for bad files."""

import shlex

import pytest
import torch
from bad_input_place import CLASSIFIER, BadPlace
from mmdet.registry import MODELS
from mmengine.registry import init_default_scope
from tool_runs import ROOT, run_here

from tresnet_det.cli import plan
from tresnet_det.engine import config as edit

TRAIN = 'train config.py --work-dir work'
SET = f'{TRAIN} --cfg-options'
PREDICT = 'predict config.py good.pth a.png'
EXPORT = 'export config.py none --out x.onnx'
PLAN = f'plan {shlex.quote(f"{ROOT}/configs/imagenet_tresnet_m.py")} --images-per-second 2000'
BENCHMARK = 'benchmark --out metrics --device cpu'


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    """A folder with data, configs and checkpoints, which a mistake leaves as they are."""
    at = BadPlace(tmp_path_factory.mktemp('place'))
    at.coco()
    at.classes('cat', 'dog')
    at.image('a.png')
    at.write('file', '')
    (at.root / 'empty').mkdir()
    values = dict(dataset='ImageFolderDataset', loss='SoftmaxCrossEntropyLoss', ann_file='')
    text = CLASSIFIER.format(data_root='classes', **values)
    loop = "train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=1)\n"
    steps = "optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.01))\n"
    unmeasured = 'test_dataloader = test_cfg = test_evaluator = None\n'
    at.write('classifier.py', text + loop + steps + unmeasured)
    own = "train_dataloader = dict(dataset=dict(type='TorchvisionDataset', name='CIFAR10'))\n"
    at.write('cifar.py', f'model = dict()\n{own}')
    init_default_scope('mmdet')
    model = MODELS.build(edit.load_config(at.root / at.config()).model)
    at.checkpoint('good.pth', state_dict=model.state_dict())
    at.checkpoint('other.pth', state_dict={'backbone.x': torch.zeros(1)})
    return at


@pytest.mark.parametrize(
    ('command', 'said'),
    [
        (f'{SET} model.backbone.arch=s', "unknown arch 's'"),
        (f'{SET} model.backbone.nope=1', 'nope'),
        (f'{SET} train_cfg.max_epoch=1', "unexpected keyword argument 'max_epoch'"),
        (f'{SET} train_dataloader.batchsize=4', "unexpected keyword argument 'batchsize'"),
        (f'{SET} optim_wrapper.optimizer.type=AdamWW', 'an optimizer'),
        (f'{SET} train_cfg=None',
         'train_dataloader and optim_wrapper without train_cfg: set all of train_dataloader, '),
        (f'{SET} val_evaluator.type=AP', 'val_evaluator without val_dataloader and val_cfg'),
        (f'{SET} optim_wrapper=None train_dataloader=None train_cfg=None param_scheduler.type=X',
         'param_scheduler without optim_wrapper'),
        (f'{SET} optim_wrapper=None train_dataloader=None train_cfg=None',
         'nothing to train with: set train_dataloader, train_cfg, optim_wrapper'),
        (f'{SET} optim_wrapper.paramwise_cfg.flat_decay_mult=0.0',
         'flat_decay_mult, and optim_wrapper.optimizer no weight_decay: add weight_decay'),
        (f'{SET} optim_wrapper.paramwise_cfg.custom_keys.backbone.decay_mult=0.0',
         'has decay_mult, and optim_wrapper.optimizer no weight_decay'),
        (f'{SET} optim_wrapper.paramwise_cfg.bias_lr_mult=2 '
         '"optim_wrapper.optimizer=dict(_delete_=True,type=SGD)"',
         'bias_lr_mult, and optim_wrapper.optimizer no lr: add lr'),
        (f'{SET} model=x', "model of the config must be a dict, got 'x'"),
        (f'{SET} train_dataloader=x', "must be a dict with a dataset, got 'x'"),
        (f"{TRAIN} --data ''", "empty, after 'config.py --work-dir work --data': is a variable"),
        (f'{SET} train_dataloader.batch_size=0', 'train_dataloader.batch_size is 0: give a whole'),
        (f'{SET} optim_wrapper.optimizer.lr=x', "optim_wrapper.optimizer.lr is 'x': give"),
        (f'{SET} param_scheduler=x', 'a part of the config cannot be built: TypeError: `param_s'),
        (f'{SET} default_hooks.logger.interval=5', 'must contain the key "type"'),
        (f'{TRAIN} --resume good.pth', 'no message_hub: nothing to resume'),
        ('test config.py other.pth', 'does not fit the model'),
        (f'{TRAIN} --amp', '--amp needs a GPU'),
        (f'{TRAIN} --pretrained none', 'no checkpoint at'),
        (f'{TRAIN} --data x --data-root x', 'argument --data-root: not allowed with argument'),
        (f'{TRAIN} --data empty', 'it is empty'),
        ('train config.py --data coco --work-dir file',
         'file/data/instances_train_without_val.json cannot be written: Not a directory'),
        ('train classifier.py --work-dir work --cfg-options model.head.in_channels=2048',
         'model.head.in_channels is 2048, but the backbone gives 512'),
        ('test config.py good.pth --out x.txt', '--out x.txt'),
        ('test classifier.py good.pth --cfg-options test_evaluator=AP',
         'test_evaluator without test_dataloader and test_cfg: set all of '),
        ('test classifier.py good.pth',
         'nothing to test with: set test_dataloader, test_cfg, test_evaluator'),
        ('test config.py good.pth --data x --demo', 'argument --demo: not allowed with argument'),
        ('predict config.py good.pth', 'give at least one image'),
        ('predict empty a.png', 'no config of a training'),
        (f'{PREDICT} --device cuda:99', 'device cuda:99'),
        (f'{PREDICT} --device cuda:200', 'device cuda:200'),  # -56 for torch
        (f'{PREDICT} --batch-size 0', 'is not a whole number above 0'),
        (f'{PREDICT} --out-dir file', 'cannot be made'),
        (f'{PREDICT} --cfg-options model.bbox_head.num_classes=3',
         'does not fit the model: it was trained for another number of classes'),
        (f'{PREDICT} --cfg-options model.backbone.arch.width_factor=0.5 '
         'model.neck.in_channels=[1024]', 'another arch'),
        ('export config.py gone.pth --out x.onnx', 'no checkpoint at'),
        ('export config.py other.pth --out x.onnx --no-check', 'does not fit the model'),
        (f'{EXPORT} --images empty', 'no image for the check in'),
        ('check_data nowhere', 'nowhere: not found'),
        ('check_data nowhere.json', 'nowhere.json: not found'),
        ('check_data nowhere.py', 'no config at'),
        ('check_data . --data-root .', '--data-root is for a config'),
        ('check_data a b c', 'an annotation file and a folder'),
        ('check_data . .', 'is all of the data already'),
        ('check_data . --workers -1', '--workers must not be negative'),
        ('check_data', 'required: DATA'),
        ('check_data cifar.py', 'has no data that this tool can check: TorchvisionDataset'),
        (f'{PLAN} --gpus 0', 'argument --gpus: '),
        ('plan config.py', 'required: --images-per-second'),
        ('plan config.py --images-per-second nan', 'nan is not a number above 0'),
        (f'{PLAN} --in-node string', "--in-node: invalid choice: 'string'"),
        (f'{PLAN} --num-images 0', 'argument --num-images: '),
        (f'{PLAN} --image-kb 0', '0 is not a number above 0'),
        (f'{PLAN} --overlap 2', '2 is not between 0 and 1'),
        (f'{PLAN} --cfg-options model.backbone.arch=n', 'arch'),
        (f'{BENCHMARK} --precision fp16', 'use bf16'),
        ('benchmark --device warp', '--device warp'),
        (f'{BENCHMARK} --family --models tresnet_m', '--models does not go with'),
        (f'{BENCHMARK} --family --size 64', '--size does not go with'),
        (f'{BENCHMARK} --data-root .', '--data-root goes with --detector and --all only'),
        (f'{BENCHMARK} --dry', '--dry goes with --all only'),
        (f'{BENCHMARK} --all --dry --precision bf16', '--precision does not go with --all'),
        (f'{BENCHMARK} --all --dry --rounds 3', '--rounds does not go with --all'),
        (f'{BENCHMARK} --all --dry --batch-size 4', '--batch-size does not go with --all'),
        (f'{BENCHMARK} --all --dry --compile', '--compile does not go with --all'),
        (f'{BENCHMARK} --all', '--all needs a GPU'),
        (f'{BENCHMARK} --detector none.py', 'no config at'),
        ('voc_to_coco nowhere out', 'nowhere: has no folder'),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(place, command, said, monkeypatch):
    monkeypatch.setattr(edit, 'get_device', lambda: 'cpu')
    if 'arch=n' not in command:
        monkeypatch.setattr(plan, 'count_model', lambda cfg, area: None)  # which takes its time
    assert said in run_here(*shlex.split(command), cwd=place.root).error
    assert not list(place.root.glob('x.*'))
