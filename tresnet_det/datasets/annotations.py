"""Masks are looked at before a training hands them to C code, also those that no reader has read.

Apart from the other transforms, since MMDetection's own take their time to import.
"""

from mmdet.datasets.transforms import LoadAnnotations as _LoadAnnotations
from mmdet.registry import TRANSFORMS

from ..errors import InputError
from ..readers.masks import find_mask_fault, has_mask


@TRANSFORMS.register_module(force=True)
class LoadAnnotations(_LoadAnnotations):
    """MMDetection's transform, which hands no mask to C code that would end the process."""

    def _process_masks(self, results: dict) -> list:
        height, width = results['ori_shape']
        for instance in results.get('instances', []):
            mask = instance.get('mask')
            if mask is None:
                raise InputError(
                    f'{results["img_path"]}: an object has no mask, and the config learns masks '
                    '(with_mask=True): take a config that learns boxes'
                )
            fault = find_mask_fault(mask, width, height) if has_mask(mask) else None
            if fault:
                raise InputError(f'{results["img_path"]}: the mask of an object {fault}')
        return super()._process_masks(results)
