"""Annotations as they lie on disk, recognised and read: COCO, Pascal VOC, YOLO, CSV, folders."""
