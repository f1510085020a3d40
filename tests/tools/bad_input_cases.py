"""Mistakes in configs, options, images, weights and what other tools take.

Each is a function that makes one in a `BadPlace`, meets it, and returns the line that is shown.
"""

import os
import stat
import struct
import zipfile

import torch
from bad_input_place import CLASSIFIER, BadPlace, cases, met
from PIL import Image

TRAIN = 'train.py CONFIG'
ONE = f'{TRAIN}, single-label'
PREDICT = 'predict.py CONFIG CHECKPOINT INPUT'


def with_option(option):
    def meet(at: BadPlace):
        at.coco()
        return at.train('--cfg-options', option)

    return meet


def into_a_file(at: BadPlace):
    at.coco()
    return at.run('train', at.config(), '--work-dir', at.write('results', ''))


PIPELINE = 'train_dataloader.dataset.pipeline'
BROKEN = 'model = dict(type=FCOS)\n'
cases('Configs and options', [
    ('there is no such config', TRAIN, lambda at: at.run('train', 'none.py')),
    ('the config is no Python that runs', TRAIN,
     lambda at: at.run('train', at.write('config.py', BROKEN))),
    ('an option without a value', f'{TRAIN} --cfg-options train_cfg.max_epochs',
     lambda at: at.train('--cfg-options', 'train_cfg.max_epochs')),
    ('an option of a list that is shorter', f'{TRAIN} --cfg-options KEY.9.type=X',
     with_option(f'{PIPELINE}.9.type=RandomFlip')),
    ('a folder of data and the demo', f'{TRAIN} --demo --data FOLDER',
     lambda at: at.train('--demo', '--data', 'coco')),
    ('the work directory is a file', f'{TRAIN} --work-dir FILE', into_a_file),
    ('a type that no registry has', TRAIN, with_option('model.backbone.type=TresNet')),
    ('a neck for another backbone', TRAIN, with_option('model.neck.in_channels=[2048]')),
    ('the folder of the data does not exist', f'{TRAIN} --data-root DIR',
     lambda at: at.train('--data-root', 'nowhere')),
])  # fmt: skip


# ---------------------------------------------------------------------------------------------


def predicted(at, *inputs, options=()):
    """Predict by a detector with random weights."""
    from mmdet.registry import MODELS
    from mmengine.registry import init_default_scope

    from tresnet_det.engine.config import load_config

    config = at.config()
    init_default_scope('mmdet')
    model = MODELS.build(load_config(at.root / config).model)
    checkpoint = at.checkpoint(state_dict=model.state_dict())
    return at.run('predict', config, checkpoint, *inputs, '--device', 'cpu', *options)


def bytes_of(at, name='good.png'):
    at.image(name, (64, 64))
    return (at.root / name).read_bytes()


def empty_image(at: BadPlace):
    at.coco()
    at.write('coco/train/b.png', '')
    return at.train()


def read_class_folders(at, index):
    from tresnet_det.datasets import ImageFolderDataset

    dataset = ImageFolderDataset(str(at.root / 'classes'))
    names = [os.path.basename(dataset.img_path(i)) for i in range(len(dataset))]
    return met(lambda: dataset[index if isinstance(index, int) else names.index(index)])


def flipped_bit(at: BadPlace):
    at.classes('cat', 'dog')
    data = bytearray(bytes_of(at))
    data[-30] ^= 1
    for name in ('cat/a', 'cat/b', 'dog/a', 'dog/b'):
        at.write(f'classes/{name}.png', bytes(data))
    return read_class_folders(at, 0)


def deep_image(at: BadPlace):
    at.classes('cat', 'dog')
    Image.new('F', (40, 30)).save(at.root / 'classes/cat/a.tif')
    return read_class_folders(at, 'a.tif')


def no_image_in_it(at: BadPlace):
    (at.root / 'empty').mkdir()
    return predicted(at, 'empty')


def other_ann_file(at: BadPlace):
    options = ('--ann-file', at.write('a.json', dict(images=[], categories=[])))
    return predicted(at, at.image('a.png'), options=options)


PAGE = '<html>404 Not Found</html>'
cases('Images', [
    ('truncated', PREDICT, lambda at: predicted(at, at.write('a.png', bytes_of(at)[:-20]))),
    ('a web page under the name of an image', PREDICT,
     lambda at: predicted(at, at.write('a.jpg', PAGE))),
    ('an empty file', 'train.py CONFIG, of a detector', empty_image),
    ('a flipped bit in a PNG', ONE, flipped_bit),
    ('32 bits a channel', ONE, deep_image),
    ('no such image', PREDICT, lambda at: predicted(at, 'none.png')),
    ('a folder without images', PREDICT, no_image_in_it),
    ('the address of a video', PREDICT, lambda at: predicted(at, 'https://example.org/a.mp4')),
    ('a score that is none', f'{PREDICT} --score-thr 30',
     lambda at: predicted(at, at.image('a.png'), options=('--score-thr', '30'))),
    ('numbers of images from another file', f'{PREDICT} --ann-file FILE', other_ann_file),
])  # fmt: skip


# ---------------------------------------------------------------------------------------------


def predict_with(at, checkpoint):
    at.coco()
    return at.run('predict', at.config(), checkpoint, at.image('a.png'), '--device', 'cpu')


def no_checkpoint(at: BadPlace):
    (at.root / 'work').mkdir()
    return at.run('test', at.config(), 'work')


def cut_checkpoint(at: BadPlace):
    at.checkpoint(state_dict=dict(w=torch.zeros(999)))
    data = (at.root / 'best.pth').read_bytes()
    return predict_with(at, at.write('best.pth', data[:900]))


class Evil:
    def __reduce__(self):
        return eval, ('1',)


def cut_safetensors(at: BadPlace):
    at.coco()
    file = at.write('best.safetensors', struct.pack('<Q', 1 << 20) + b'{')
    return at.train('--pretrained', file)


def nothing_to_resume(at: BadPlace):
    at.coco()
    return at.train('--resume', 'epoch_3.pth')


def converted(target, key):
    return lambda at: at.run(
        'convert_weights', at.checkpoint(state_dict={key: torch.zeros(1)}), target
    )


def inferencer_without_config(at: BadPlace):
    from mmdet.apis import DetInferencer

    file = str(at.root / at.checkpoint(meta=dict(cfg='import os'), state_dict={}))
    return met(lambda: DetInferencer(weights=file, device='cpu'))


cases('Checkpoints', [
    ('no checkpoint there', 'test.py CONFIG CHECKPOINT', no_checkpoint),
    ('truncated', PREDICT, cut_checkpoint),
    ('a web page under the name of a checkpoint', PREDICT,
     lambda at: predict_with(at, at.write('best.pth', PAGE))),
    ('a pickle that would run a command', PREDICT,
     lambda at: predict_with(at, at.checkpoint(state_dict=Evil()))),
    ('of another network', PREDICT,
     lambda at: predict_with(at, at.checkpoint(state_dict=dict(weight=torch.zeros(1))))),
    ('safetensors that are truncated', 'train.py CONFIG --pretrained FILE', cut_safetensors),
    ('nothing to resume from', 'train.py CONFIG --resume FILE', nothing_to_resume),
    ('weights without a TResNet', 'convert_weights.py SRC DST',
     converted('out.pth', 'layer1.0.conv1.weight')),
    ('a target of another kind', 'convert_weights.py SRC DST.bin',
     converted('out.bin', 'layer1.0.conv1.conv.weight')),
    ('no weights in it', 'publish_weights.py CHECKPOINT',
     lambda at: at.run('publish_weights', at.checkpoint(epoch=3))),
    ('weights alone, with the text of a config in them', 'DetInferencer(weights=FILE)',
     inferencer_without_config),
])  # fmt: skip


# ---------------------------------------------------------------------------------------------


def export_of_a_classifier(at: BadPlace):
    at.classes('cat', 'dog')
    values = dict(dataset='ImageFolderDataset', loss='CrossEntropyLoss', ann_file='')
    config = at.config(CLASSIFIER, data_root='classes', **values)
    return at.run('export', config, 'none', '--out', 'a.onnx', '--score-thr', '0.3')


def archive(name, kind=0):
    def meet(at: BadPlace):
        from tresnet_det.datasets.archives import unpack

        member = zipfile.ZipInfo(name)
        member.external_attr = (kind | 0o644) << 16
        with zipfile.ZipFile(at.root / 'val2017.zip', 'w') as file:
            file.writestr(member, b'/etc/passwd')
        (at.root / 'unpacked').mkdir()
        return met(lambda: unpack(at.root / 'val2017.zip', at.root / 'unpacked'))

    return meet


cases('Other tools', [
    ('a file of another kind is to be written', 'export.py CONFIG CHECKPOINT --out FILE',
     lambda at: at.run('export', at.config(), 'none', '--out', 'detector.bin')),
    ("a detector's option for a classifier", 'export.py CONFIG none --score-thr 0.3',
     export_of_a_classifier),
    ('a model that nobody knows', 'benchmark.py --models NAME',
     lambda at: at.run('benchmark', '--models', 'tresnet_s', '--no-speed')),
    ('a file that is no data', 'check_data.py FILE',
     lambda at: at.run('check_data', at.write('data.pkl', b'\x80\x04K\x01.'))),
    ('an address that is none', 'get_coco.py --base-url URL',
     lambda at: at.run('get_coco', '--base-url', 'ftp://example.org', '--out-dir', 'coco')),
    ('a name in an archive that leads out', 'get_coco.py', archive('val2017/../../../.bashrc')),
    ('a link in an archive', 'get_coco.py', archive('val2017/0.jpg', stat.S_IFLNK)),
])  # fmt: skip
