"""TResNet as a backbone for MMDetection 3.x."""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent
VERSION = re.search(r"__version__ = '(.+)'", (HERE / 'tresnet_det/__init__.py').read_text())[1]
# torch's exporter needs onnxscript; onnxruntime checks what it wrote, and runs it.
EXPORT = ['onnx>=1.23', 'onnxruntime>=1.32', 'onnxscript>=0.7']
# Training, measuring and predicting, but for an mmcv.
DETECTION = [
    'torchvision',
    'mmengine>=0.10.4,<0.11',
    'mmdet==3.3.0',
    'setuptools<81',  # mmengine reads `_base_ = 'mmdet::...'` through pkg_resources
    'numpy',
    'matplotlib',
    'pycocotools',
    'scikit-learn',  # the handwritten digits and the photos of --demo
    'tensorboard',
    'tqdm',
]


class BuildWithConfigs(build_py):
    """Put configs and tools into the wheel, where MMDetection's wheel has its own."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:  # a clone has them next to the package
            return
        target = Path(self.build_lib, 'tresnet_det', '.mim')
        shutil.rmtree(target, ignore_errors=True)  # of a build before
        for folder in ('configs', 'tools'):
            shutil.copytree(
                HERE / folder, target / folder, ignore=shutil.ignore_patterns('__pycache__')
            )
        shutil.copy(HERE / 'model-index.yml', target)


setup(
    name='tresnet_det',
    version=VERSION,
    description='TResNet as a backbone for MMDetection: detection, multi-label, ImageNet',
    long_description=(HERE / 'README.md').read_text(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    packages=find_packages(include=['tresnet_det', 'tresnet_det.*']),
    package_data={'tresnet_det': ['py.typed']},
    cmdclass={'build_py': BuildWithConfigs},
    python_requires='>=3.10',
    install_requires=['torch>=2.4'],  # enough for tresnet_det.backbone
    extras_require={
        # mmcv and mmcv-lite own the same import name: `mmdet` is for a compiled mmcv.
        'mmdet': DETECTION,
        'lite': [*DETECTION, 'mmcv-lite==2.1.0'],
        'fast': ['faster-coco-eval>=1.8.0'],  # COCO's metrics in an eighth of pycocotools' time
        'hub': ['huggingface_hub', 'safetensors'],
        'export': EXPORT,
        'docs': ['mkdocs>=1.6,<2', 'mkdocs-material>=9.5', 'mkdocstrings[python]>=1.0'],
        'test': [
            'hypothesis',
            'pytest',
            'pytest-cov',
            'pytest-randomly',
            'pytest-xdist',
            'mypy',
            'ruff',
            'timm',
            'safetensors',
            'tidecv==1.0.1',
            'faster-coco-eval>=1.8.0',
            *EXPORT,
        ],
    },
)
