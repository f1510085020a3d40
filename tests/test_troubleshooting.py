"""docs/troubleshooting.md quotes the messages of the code."""

import re

# Of other software, as it prints them.
FOREIGN = {
    "No module named 'mmcv._ext'",
    "No module named 'pkg_resources'",
    'Failed building wheel for mmcv',
    'MMCV==2.2.0 is used but incompatible',
    'operator torchvision::nms does not exist',
    'is not in the mmdet::model registry',
    "No module named 'onnxscript'",
    'Weights only load failed',
    'Unsupported global',
    'HistoryBuffer',
    'LocalEntryNotFoundError',
    'CUDA out of memory',
    'OverflowError',
    'adjust_hue',
}


def test_every_message_of_this_project_that_it_quotes_is_in_the_code(project_root):
    page = (project_root / 'docs' / 'troubleshooting.md').read_text()
    cells = re.findall(r'^\| (.*?) \| ', page, re.MULTILINE)
    quoted = {text for cell in cells for text in re.findall(r'`(.+?)`', cell)} - FOREIGN
    assert len(quoted) >= 9
    # Adjacent literals are one text, and what is filled in is anything.
    sources = ' '.join(path.read_text() for path in (project_root / 'tresnet_det').rglob('*.py'))
    sources = re.sub(r"'\s+f?'", '', sources)
    sources = re.sub(r'\{[^{}]*\}', 'nan', sources)
    assert {text for text in quoted if text not in sources} == set()
