"""Write docs/tour.ipynb from the cells below: python docs/make_tour.py, then execute it."""

import json
import re
from pathlib import Path

# Text and code by turns; a cell begins with its kind.
CELLS = r"""
%% text
# A tour in one notebook

From data to an exported model, on a CPU, in about four minutes. Run it in a clone, after
`pip install -e '.[lite,export]' jupyter`. The data is made here: handwritten digits on photos.

%% code
import os
from pathlib import Path

from IPython.display import Image

if not Path('configs').is_dir():  # the notebook is in docs/
    os.chdir('..')
os.environ.update(TQDM_DISABLE='1', NO_COLOR='1')  # no progress bars
folder, work_dir = 'work_dirs/tour_data', 'work_dirs/tour'
preview, image = f'{folder}/preview.png', f'{folder}/val2017/000001.png'

%% text
## The data

A folder in COCO's format. Yours may be in the layout of YOLO, Pascal VOC or a labelling tool.

%% code
!python tools/make_demo_data.py --out-dir {folder} --preview {preview}
!python tools/check_data.py {folder}
Image(preview)

%% text
## Train

`demo=True` is a small network, so that a CPU learns something within minutes. On a GPU, train the
config's own network on your folder: `train('configs/fcos_tresnet_m.py', data='FOLDER')`.

%% code
from tresnet_det import train

config = 'configs/fcos_tresnet_m.py'
trained = train(config, demo=True, data_root=folder, epochs=4, work_dir=work_dir)
trained.metrics['coco/bbox_mAP']

%% code
Image(f'{work_dir}/curves.png')

%% text
## The report

The metrics, and what was found. `test/evaluation/report.html` in the work directory says which
mistakes cost most and what to do next.

%% code
from tresnet_det import evaluate

evaluate(work_dir).metrics

%% code
Image(f'{work_dir}/test/predictions.png')

%% text
## Predict

%% code
from PIL import Image as PIL_Image

from tresnet_det import Predictor

predictor = Predictor(work_dir)
result = predictor(image)
print(result.names, result.scores.round(2), result.boxes.round(), sep='\n')
PIL_Image.fromarray(result.plot())

%% text
## Export

The file is compared with PyTorch on images. `--int8` makes it a quarter of the size.

%% code
!python tools/export.py {work_dir} --out {work_dir}/tour.onnx
!python tresnet_det/inference/onnx_runner.py {work_dir}/tour.onnx {image} --out {work_dir}/runner

%% text
## Features

The backbone as it was trained turns images into vectors. Images that are alike are close.

%% code
!python tools/embed.py {work_dir} {folder}/val2017 --query {image} --sheet {work_dir}/alike.jpg
Image(f'{work_dir}/alike.jpg')
"""


def main() -> None:
    cells = []
    for number, (kind, source) in enumerate(
        re.findall(r'^%% (\w+)\n(.*?)(?=^%%|\Z)', CELLS, re.DOTALL | re.MULTILINE)
    ):
        cell = dict(id=f'cell-{number}', metadata={}, source=source.strip().splitlines(True))
        if kind == 'code':
            cell |= dict(cell_type='code', execution_count=None, outputs=[])
        else:
            cell |= dict(cell_type='markdown')
        cells.append(cell)
    kernel = dict(name='python3', display_name='Python 3', language='python')
    notebook = dict(cells=cells, metadata=dict(kernelspec=kernel), nbformat=4, nbformat_minor=5)
    path = Path(__file__).with_name('tour.ipynb')
    path.write_text(json.dumps(notebook, indent=1) + '\n', encoding='utf-8')
    print(path)


if __name__ == '__main__':
    main()
