"""Demo classification data, made on the spot: a folder of images for each digit.

Each of scikit-learn's 1797 digit samples is there once, alone on a photo, drawn as in the
detection data of :mod:`tresnet_det.datasets.demo.digits`. With the same seed both deal the samples
out in the same way: a classifier trained on ``train`` has seen no sample of the detector's
``val2017``, and can serve as its pretraining. The photos are shared by all.
"""

import json
import os
from pathlib import Path

import numpy as np

from .folder import check_content, make_folder
from .images import (
    LICENSES,
    Sources,
    background,
    bright_colour,
    check_size_and_seed,
    digit_alpha,
    load_sources,
    paste,
    split_samples,
    write_png,
)

VERSION = '1.0'
SPLITS = ('train', 'val')
# Longest side asked for, as a share of the image's; upscaling gives 0.93 to 1.04 times that, so
# that digits measure 0.45 to 0.9.
DIGIT_SIDE = (0.48, 0.87)
STREAM = 2  # of random numbers; the detection data's splits have 0 and 1
DESCRIPTION = (
    'Demo data: class folders of handwritten digits, one on each image. The digit samples of '
    'train and val are disjoint; the two background photos are shared by both.'
)
INFO_FILE = 'info.json'


def make_demo_classes(out_dir: str | os.PathLike, size: int = 64, seed: int = 0) -> Path:
    """Make class folders of digits, as ``ImageFolderDataset`` reads them.

    The same arguments give the same bytes. The folder appears complete or not at all, so several
    processes may ask for it at once; complete data of the same arguments is left as it is.

    Args:
        out_dir: Folder to make: ``train/0/`` to ``train/9/`` (1438 PNG images), ``val/0/`` to
            ``val/9/`` (359), and ``info.json``, which holds the arguments and the list of
            images. An image is named by its sample's index in ``load_digits()``.
        size: Side of the square images in pixels, 32 to 1024.
        seed: Any non-negative number.

    Returns:
        ``out_dir`` as a path.

    Raises:
        InputError: An argument is out of range, or ``out_dir`` holds something else.
    """
    check_size_and_seed(size, seed)
    info = {'description': DESCRIPTION, 'version': VERSION, 'seed': seed, 'size': size}
    return make_folder(
        out_dir,
        lambda folder: check_content(folder, info, INFO_FILE, '', 'demo data of classes'),
        lambda folder: _write_all(folder, info),
    )


def _write_all(root: Path, info: dict) -> None:
    sources = load_sources()
    pools = split_samples(len(sources.digits), info['seed'])
    images = []
    for split, pool in zip(SPLITS, pools, strict=True):
        for sample in np.sort(pool).tolist():
            # one generator a sample: its image is the same in whichever split it is
            rng = np.random.default_rng([info['seed'], STREAM, sample])
            name = f'{split}/{sources.labels[sample]}/{sample:04d}.png'
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            write_png(root / name, _make_image(rng, sources, sample, info['size']))
            images.append({'file_name': name})
    content = {'info': info, 'licenses': LICENSES, 'images': images}
    (root / INFO_FILE).write_text(json.dumps(content, separators=(',', ':')))


def _make_image(rng: np.random.Generator, sources: Sources, sample: int, size: int) -> np.ndarray:
    """Paste one digit anywhere inside an image, RGB uint8 ``(size, size, 3)``."""
    image = background(rng, sources.photos, size)
    side = rng.uniform(*DIGIT_SIDE) * size
    alpha, (left, top, w, h) = digit_alpha(sources.digits[sample], side)
    x, y = rng.integers(size - w + 1), rng.integers(size - h + 1)
    paste(image, alpha, bright_colour(rng), int(x) - left, int(y) - top)
    return image.round().astype(np.uint8)
