import copy
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


class TinyCoco:
    """Two images of 40 x 30, two classes, three boxes; `content` is there to be broken."""

    content = {
        'images': [
            {'id': 7, 'file_name': 'a.png', 'width': 40, 'height': 30},
            {'id': 9, 'file_name': 'b.png', 'width': 40, 'height': 30},
        ],
        'annotations': [
            {'id': 1, 'image_id': 7, 'category_id': 3, 'bbox': [0, 0, 40, 30], 'area': 1200},
            {'id': 2, 'image_id': 7, 'category_id': 5, 'bbox': [5, 5, 9, 9], 'area': 81},
            {'id': 3, 'image_id': 9, 'category_id': 3, 'bbox': [1.5, 2.5, 8, 8], 'area': 64},
        ],
        'categories': [{'id': 3, 'name': 'cat'}, {'id': 5, 'name': 'dog'}],
    }

    def __init__(self, root: Path) -> None:
        self.root, self.ann_file, self.img_dir = root, root / 'ann.json', root / 'img'
        self.content = copy.deepcopy(self.content)
        for annotation in self.content['annotations']:
            annotation['iscrowd'] = 0
        self.img_dir.mkdir()
        for name in ('a.png', 'b.png'):
            Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(self.img_dir / name)
        self.write()

    def write(self) -> None:
        self.ann_file.write_text(json.dumps(self.content))


@pytest.fixture
def tiny_coco(tmp_path) -> TinyCoco:
    return TinyCoco(tmp_path)
