"""Mistakes in configs, options, images, weights and what other tools take.

Each is a function that makes one in a `BadPlace`, meets it, and returns the line that is shown.
"""

import os
import stat
import struct
import zipfile

import torch
from bad_input_place import CLASSIFIER, BadPlace, case
from PIL import Image

TRAIN = 'train.py CONFIG'
ONE = f'{TRAIN}, single-label'
CONFIGS = 'Configs and options'


@case(CONFIGS, 'there is no such config', TRAIN)
def no_config(at: BadPlace):
    return at.run('train', 'none.py')


@case(CONFIGS, 'the config is no Python that runs', TRAIN)
def broken_config(at: BadPlace):
    return at.run('train', at.write('config.py', 'model = dict(type=FCOS)\n'))


@case(CONFIGS, 'an option without a value', f'{TRAIN} --cfg-options train_cfg.max_epochs')
def option_without_value(at: BadPlace):
    return at.train('--cfg-options', 'train_cfg.max_epochs')


@case(CONFIGS, 'an option of a list that is shorter', f'{TRAIN} --cfg-options KEY.9.type=X')
def option_of_a_short_list(at: BadPlace):
    at.coco()
    return at.train('--cfg-options', 'train_dataloader.dataset.pipeline.9.type=RandomFlip')


@case(CONFIGS, 'a folder of data and the demo', f'{TRAIN} --demo --data FOLDER')
def two_kinds_of_data(at: BadPlace):
    return at.train('--demo', '--data', 'coco')


@case(CONFIGS, 'the work directory is a file', f'{TRAIN} --work-dir FILE')
def work_dir_is_a_file(at: BadPlace):
    at.coco()
    return at.run('train', at.config(), '--work-dir', at.write('results', ''))


@case(CONFIGS, 'a type that no registry has', TRAIN)
def unknown_type(at: BadPlace):
    at.coco()
    return at.train('--cfg-options', 'model.backbone.type=TresNet')


@case(CONFIGS, 'a neck for another backbone', TRAIN)
def neck_of_another_backbone(at: BadPlace):
    at.coco()
    return at.train('--cfg-options', 'model.neck.in_channels=[2048]')


@case(CONFIGS, 'the folder of the data does not exist', f'{TRAIN} --data-root DIR')
def no_data_root(at: BadPlace):
    return at.train('--data-root', 'nowhere')


# ---------------------------------------------------------------------------------------------
IMAGES = 'Images'
PREDICT = 'predict.py CONFIG CHECKPOINT INPUT'


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


@case(IMAGES, 'truncated', PREDICT)
def cut_image(at: BadPlace):
    return predicted(at, at.write('a.png', bytes_of(at)[:-20]))


@case(IMAGES, 'a web page under the name of an image', PREDICT)
def web_page(at: BadPlace):
    return predicted(at, at.write('a.jpg', '<html>404 Not Found</html>'))


@case(IMAGES, 'an empty file', 'train.py CONFIG, of a detector')
def empty_image(at: BadPlace):
    at.coco()
    at.write('coco/train/b.png', '')
    return at.train()


@case(IMAGES, 'a flipped bit in a PNG', ONE)
def flipped_bit(at: BadPlace):
    at.classes('cat', 'dog')
    data = bytearray(bytes_of(at))
    data[-30] ^= 1
    for name in ('cat/a', 'cat/b', 'dog/a', 'dog/b'):
        at.write(f'classes/{name}.png', bytes(data))
    from tresnet_det.datasets import ImageFolderDataset

    return met(lambda: ImageFolderDataset(str(at.root / 'classes'))[0])


@case(IMAGES, '32 bits a channel', ONE)
def deep_image(at: BadPlace):
    at.classes('cat', 'dog')
    Image.new('F', (40, 30)).save(at.root / 'classes/cat/a.tif')
    from tresnet_det.datasets import ImageFolderDataset

    dataset = ImageFolderDataset(str(at.root / 'classes'))
    place = [os.path.basename(dataset.img_path(i)) for i in range(len(dataset))].index('a.tif')
    return met(lambda: dataset[place])


def met(call):
    """Return what the tools would print of an error that the package raises."""
    from tresnet_det.cli.failures import one_line
    from tresnet_det.errors import InputError

    try:
        call()
    except InputError as error:
        return f'error: {one_line(error)}'
    raise AssertionError('nothing was raised')


@case(IMAGES, 'no such image', PREDICT)
def no_such_image(at: BadPlace):
    return predicted(at, 'none.png')


@case(IMAGES, 'a folder without images', PREDICT)
def no_image_in_it(at: BadPlace):
    (at.root / 'empty').mkdir()
    return predicted(at, 'empty')


@case(IMAGES, 'the address of a video', PREDICT)
def address_of_a_video(at: BadPlace):
    return predicted(at, 'https://example.org/a.mp4')


@case(IMAGES, 'a score that is none', f'{PREDICT} --score-thr 30')
def odd_score(at: BadPlace):
    return predicted(at, at.image('a.png'), options=('--score-thr', '30'))


@case(IMAGES, 'numbers of images from another file', f'{PREDICT} --ann-file FILE')
def other_ann_file(at: BadPlace):
    options = ('--ann-file', at.write('a.json', dict(images=[], categories=[])))
    return predicted(at, at.image('a.png'), options=options)


# ---------------------------------------------------------------------------------------------
WEIGHTS = 'Checkpoints'
TEST = 'test.py CONFIG CHECKPOINT'


def tested(at, checkpoint):
    at.coco()
    return at.run('predict', at.config(), checkpoint, at.image('a.png'), '--device', 'cpu')


@case(WEIGHTS, 'no checkpoint there', TEST)
def no_checkpoint(at: BadPlace):
    (at.root / 'work').mkdir()
    return at.run('test', at.config(), 'work')


@case(WEIGHTS, 'truncated', PREDICT)
def cut_checkpoint(at: BadPlace):
    at.checkpoint(state_dict=dict(w=torch.zeros(999)))
    data = (at.root / 'best.pth').read_bytes()
    return tested(at, at.write('best.pth', data[:900]))


@case(WEIGHTS, 'a web page under the name of a checkpoint', PREDICT)
def page_as_checkpoint(at: BadPlace):
    return tested(at, at.write('best.pth', '<html>404 Not Found</html>'))


@case(WEIGHTS, 'a pickle that would run a command', PREDICT)
def evil_checkpoint(at: BadPlace):
    return tested(at, at.checkpoint(state_dict=Evil()))


class Evil:
    def __reduce__(self):
        return eval, ('1',)


@case(WEIGHTS, 'of another network', PREDICT)
def other_network(at: BadPlace):
    return tested(at, at.checkpoint(state_dict=dict(weight=torch.zeros(1))))


@case(WEIGHTS, 'safetensors that are truncated', 'train.py CONFIG --pretrained FILE')
def cut_safetensors(at: BadPlace):
    at.coco()
    file = at.write('best.safetensors', struct.pack('<Q', 1 << 20) + b'{')
    return at.train('--pretrained', file)


@case(WEIGHTS, 'nothing to resume from', 'train.py CONFIG --resume FILE')
def nothing_to_resume(at: BadPlace):
    at.coco()
    return at.train('--resume', 'epoch_3.pth')


@case(WEIGHTS, 'weights without a TResNet', 'convert_weights.py SRC DST')
def no_tresnet(at: BadPlace):
    source = at.checkpoint(state_dict={'layer1.0.conv1.weight': torch.zeros(1)})
    return at.run('convert_weights', source, 'out.pth')


@case(WEIGHTS, 'a target of another kind', 'convert_weights.py SRC DST.bin')
def odd_target(at: BadPlace):
    state = {'layer1.0.conv1.conv.weight': torch.zeros(1)}
    return at.run('convert_weights', at.checkpoint(state_dict=state), 'out.bin')


@case(WEIGHTS, 'no weights in it', 'publish_weights.py CHECKPOINT')
def nothing_to_publish(at: BadPlace):
    return at.run('publish_weights', at.checkpoint(epoch=3))


@case(WEIGHTS, 'weights alone, with the text of a config in them', 'DetInferencer(weights=FILE)')
def inferencer_without_config(at: BadPlace):
    from mmdet.apis import DetInferencer

    file = str(at.root / at.checkpoint(meta=dict(cfg='import os'), state_dict={}))
    return met(lambda: DetInferencer(weights=file, device='cpu'))


# ---------------------------------------------------------------------------------------------
OTHER = 'Other tools'


@case(OTHER, 'a file of another kind is to be written', 'export.py CONFIG CHECKPOINT --out FILE')
def odd_export(at: BadPlace):
    return at.run('export', at.config(), 'none', '--out', 'detector.bin')


@case(OTHER, "a detector's option for a classifier", 'export.py CONFIG none --score-thr 0.3')
def export_of_a_classifier(at: BadPlace):
    at.classes('cat', 'dog')
    values = dict(dataset='ImageFolderDataset', loss='CrossEntropyLoss', ann_file='')
    config = at.config(CLASSIFIER, data_root='classes', **values)
    return at.run('export', config, 'none', '--out', 'a.onnx', '--score-thr', '0.3')


@case(OTHER, 'a model that nobody knows', 'benchmark.py --models NAME')
def unknown_model(at: BadPlace):
    return at.run('benchmark', '--models', 'tresnet_s', '--no-speed')


@case(OTHER, 'a file that is no data', 'check_data.py FILE')
def odd_data(at: BadPlace):
    return at.run('check_data', at.write('data.pkl', b'\x80\x04K\x01.'))


@case(OTHER, 'an address that is none', 'get_coco.py --base-url URL')
def odd_address(at: BadPlace):
    return at.run('get_coco', '--base-url', 'ftp://example.org', '--out-dir', 'coco')


def archive(what, name, kind=0):
    @case(OTHER, what, 'get_coco.py')
    def meet(at: BadPlace):
        from tresnet_det.datasets.archives import unpack

        member = zipfile.ZipInfo(name)
        member.external_attr = (kind | 0o644) << 16
        with zipfile.ZipFile(at.root / 'val2017.zip', 'w') as file:
            file.writestr(member, b'/etc/passwd')
        (at.root / 'unpacked').mkdir()
        return met(lambda: unpack(at.root / 'val2017.zip', at.root / 'unpacked'))


archive('a name in an archive that leads out', 'val2017/../../../.bashrc')
archive('a link in an archive', 'val2017/0.jpg', stat.S_IFLNK)
