"""tools/predict.py with detectors that find masks, compared with tools/test.py."""

import json

import mmengine
import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from PIL import Image
from pycocotools import mask as masks_of_coco

from tresnet_det import Predictor
from tresnet_det.engine import config as edit

NAMES = ('disc', 'bar', 'hook')
# Of any detector: narrow and shallow heads that are sure of everything, and a dozen results.
SMALL = dict(feat_channels=64, stacked_convs=1, fc_out_channels=64, conv_out_channels=64,
             num_convs=1, score_thr=0.0, filter_thr=0.0, nms_pre=100, max_per_img=12)  # fmt: skip
LAST = ('fc_cls.weight', 'conv_cls.weight', 'conv_kernel.weight', 'controller.weight')
# Height and width of each image by its number. Two that follow each other are of one size once the
# config scales them to 96 pixels: a batch of test, and of predict, which meets the files otherwise.
SIZES = {101: (64, 96), 102: (128, 192), 103: (96, 64), 104: (48, 32)}
FILES = {101: 'a.png', 102: 'c.png', 103: 'b.png', 104: 'd.png'}


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    """Images of noise, the corner of each telling its number, with a box-shaped object each."""
    root = tmp_path_factory.mktemp('shapes')
    (root / 'images').mkdir()
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for number, size in SIZES.items():
        pixels = rng.integers(256, size=(*size, 3), dtype=np.uint8)
        pixels[:8, :8] = number
        Image.fromarray(pixels).save(root / 'images' / FILES[number])
        images.append(dict(id=number, file_name=FILES[number], height=size[0], width=size[1]))
        place = dict(id=number, image_id=number, category_id=15, iscrowd=0, area=600)
        outline = [10, 10, 40, 10, 40, 30, 10, 30]
        annotations.append(dict(place, bbox=[10, 10, 30, 20], segmentation=[outline]))
    # Numbers that are no labels, nor one more.
    categories = [dict(id=5 + 10 * number, name=name) for number, name in enumerate(NAMES)]
    content = dict(images=images, annotations=annotations, categories=categories)
    (root / 'truth.json').write_text(json.dumps(content))
    return root


@pytest.fixture
def save_detector(project_root, tmp_path, tiny_arch, shapes):
    """A work directory of one of configs/reuse in miniature, with random weights."""

    def make(name):
        cfg = edit.load_config(project_root / 'configs' / 'reuse' / f'{name}_tresnet_m.py')
        edit.drop_pretrained(cfg)
        edit.set_num_classes(cfg, len(NAMES))
        cfg.model.backbone.arch = tiny_arch
        cfg.model.neck.in_channels = [16, 32, 256, 512]
        for part in edit.iterate_dicts(cfg.model):
            part.update({key: min(part[key], SMALL[key]) for key in part.keys() & SMALL.keys()})
        loader = cfg.test_dataloader
        loader.update(num_workers=0, persistent_workers=False)
        files = dict(ann_file='truth.json', data_prefix=dict(img='images/'))
        loader.dataset.update(data_root=str(shapes), metainfo=dict(classes=NAMES), **files)
        loader.dataset.pipeline[1].scale = (96, 96)
        cfg.test_evaluator.ann_file = str(shapes / 'truth.json')
        cfg.val_dataloader, cfg.val_evaluator = loader, cfg.test_evaluator
        register_all_modules()
        model = MODELS.build(cfg.model)
        model.init_weights()
        for key, value in model.named_parameters():
            if key.endswith(LAST):
                value.data *= 30  # scores and masks that differ, and are not at the thresholds
        folder = tmp_path / name
        folder.mkdir()
        cfg.dump(folder / 'as_run.py')
        content = dict(state_dict=model.state_dict(), meta=dict(dataset_meta=dict(classes=NAMES)))
        torch.save(content, folder / 'epoch_1.pth')
        return folder

    return make


def read(path):
    return json.loads(path.read_text())


def decode(code):
    return masks_of_coco.decode(code).astype(bool)


@pytest.mark.parametrize(
    ('name', 'threshold'),
    [
        ('mask_rcnn', 'model.test_cfg.rcnn.score_thr'),
        ('solov2', 'model.test_cfg.score_thr'),
    ],
)
def test_the_masks_are_those_that_test_computes(
    name, threshold, save_detector, shapes, run, tmp_path
):
    work, kept, out = save_detector(name), tmp_path / 'kept.pkl', tmp_path / 'out'
    arguments = (work / 'as_run.py', work / 'epoch_1.pth')
    options = ('--out-dir', out, '--ann-file', shapes / 'truth.json', '--score-thr', 0)
    # Of the same batches, since the rounding of another batch turns pixels, and scores with them.
    for batch_size, of_one_size in ((1, 1), (4, 2)):
        loader = ('--cfg-options', f'test_dataloader.batch_size={of_one_size}')
        result = run('test', *arguments, *loader, '--out', kept, '--work-dir', tmp_path / 'test')
        assert result.code == 0, result.err
        expected = {sample['img_id']: sample['pred_instances'] for sample in mmengine.load(kept)}
        predict = (*arguments, shapes / 'images', *options, '--batch-size', batch_size)
        result = run('predict', *predict)
        assert (result.code, result.err) == (0, '')
        boxes, masks = read(out / 'results.bbox.json'), read(out / 'results.segm.json')
        for number, found in expected.items():
            rows = [row for row in masks if row['image_id'] == number]
            order = np.argsort(-found['scores'].numpy(), kind='stable')
            assert len(rows) == len(order) > 0
            for row, n in zip(rows, order, strict=True):
                assert row['category_id'] == 5 + 10 * int(found['labels'][n])
                mask = decode(row['segmentation'])
                assert mask.shape == SIZES[number]
                assert np.array_equal(mask, decode(found['masks'][n]))
                assert row['score'] == pytest.approx(float(found['scores'][n]), rel=1e-4)
        same = ('image_id', 'category_id', 'score')
        assert [[row[k] for k in same] for row in boxes] == [[r[k] for k in same] for r in masks]
    assert f'masks     {out.name}/results.segm.json' in result.out
    if name == 'solov2':  # whose boxes are zeros
        for box, mask in zip(boxes, masks, strict=True):
            rows, columns = np.nonzero(decode(mask['segmentation']))
            x1, y1, x2, y2 = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
            assert box['bbox'] == [x1, y1, x2 - x1, y2 - y1]

    files = sorted((shapes / 'images').iterdir())
    ids = {image['file_name']: image['id'] for image in read(shapes / 'truth.json')['images']}
    numbers = {name: 5 + 10 * label for label, name in enumerate(NAMES)}
    found = Predictor(*arguments, device='cpu')(files, threshold=0, batch_size=4)
    for iou_type, written in (('bbox', boxes), ('segm', masks)):
        rows = (
            one.to_coco(ids[f.name], numbers, iou_type) for f, one in zip(files, found, strict=True)
        )
        assert sum(rows, []) == written
    for one in found:
        assert one.masks.shape == (len(one), *one.ori_shape)
        assert np.array_equal(one.masks[0], decode(one.rles[0]))

    result = run('predict', *predict, '--cfg-options', f'{threshold}=1.0')
    assert (result.code, result.err) == (0, '')
    assert read(out / 'results.segm.json') == read(out / 'results.bbox.json') == []
