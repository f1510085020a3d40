"""What pyproject.toml cannot say: requirements, and configs and tools inside the package."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent
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
    """Put configs and tools into the wheel, as folders of the package."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:  # a clone has them next to the package
            return
        for folder in ('configs', 'tools'):
            target = Path(self.build_lib, 'tresnet_det', folder)
            shutil.rmtree(target, ignore_errors=True)  # of a build before
            shutil.copytree(HERE / folder, target, ignore=shutil.ignore_patterns('__pycache__'))


setup(
    cmdclass={'build_py': BuildWithConfigs},
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
            'pyarrow',
            'mypy',
            'ruff',
            'timm',
            'safetensors',
            'tidecv==1.0.1',
            'nbclient',  # the notebook is run
            'ipykernel',
            'faster-coco-eval>=1.8.0',
            *EXPORT,
        ],
    },
)
