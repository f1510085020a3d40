"""Each layout with its faults, and what the check of data and a training make of a folder."""

from planted_coco import PLANTS as COCO_PLANTS
from planted_coco import Coco
from planted_labels import CSV_PLANTS, FOLDER_PLANTS, Csv, Folders
from planted_voc import PLANTS as VOC_PLANTS
from planted_voc import Voc
from planted_yolo import PLANTS as YOLO_PLANTS
from planted_yolo import Yolo

from tresnet_det.cli.check_data import read_image
from tresnet_det.readers.config import find_sources
from tresnet_det.readers.findings import Findings
from tresnet_det.readers.report import inspect_data

LAYOUTS = dict(  # the writer, its faults, the task
    coco=(Coco, COCO_PLANTS, 'detection'),
    voc=(Voc, VOC_PLANTS, 'detection'),
    yolo=(Yolo, YOLO_PLANTS, 'detection'),
    csv=(Csv, CSV_PLANTS, 'multilabel'),
    folders=(Folders, FOLDER_PLANTS, 'classification'),
)
CASES = [(layout, name) for layout, (_, plants, _) in LAYOUTS.items() for name in plants]


def inspect(sources, findings=None, decode=True, **options):
    return inspect_data(sources, findings, read_image=read_image if decode else None, **options)


def inspect_path(path, **options):
    findings = Findings()
    return inspect(find_sources(findings, path, alone=True), findings, **options)


def codes(report):
    found = {(f.split, f.code): f.count for f in report.findings.sorted()}
    return {key: count for key, count in found.items() if key[1] != 'one-image'}  # on purpose here


def errors(report):
    return [f for f in report.findings if f.level == 'error']
