"""``--img-size``: the size of images in all pipelines of a config, in proportion."""

from collections.abc import Iterator
from typing import Any

from mmengine.config import Config

from ..errors import InputError
from ..tasks import find_task, type_name
from .config import iterate_dicts

# Arguments of transforms in pixels. Floats are shares, as in RandomResizedCrop's scale=(0.3, 1.0).
KEYS = (
    'scale', 'scales', 'img_scale', 'crop_size', 'size', 'border', 'min_size', 'max_size',
    'target_size', 'random_size_range', 'width', 'height',
)  # fmt: skip
RANGES = ('random_size_range', 'min_size')  # two numbers that are not of two axes


def set_img_size(cfg: Config, size: tuple[int, int]) -> list[str]:
    """Test on images of this size, and train on what has the same ratio to it as before.

    The size of a config is that of the last transform of its test pipeline that names one: what
    ``Resize`` fits images into, or a classifier's ``CenterCrop``. All that its transforms give in
    pixels (scales, crops, mosaics) is multiplied by the same factors, one for each axis.

    Args:
        cfg: Changed in place.
        size: Width and height in pixels.

    Returns:
        What was changed, a line for each pipeline.

    Raises:
        InputError: No transform of the test pipeline names a size, or the model is made for one.
    """
    for part in iterate_dicts(cfg.model):
        if 'input_size' in part:  # SSD's anchors
            raise InputError(
                f'--img-size: {type_name(part)} of the model is made for {part["input_size"]} '
                'pixels: change both by --cfg-options'
            )
    tested = cfg.get('val_dataloader') or cfg.get('test_dataloader')
    pixels = [step[key] for step in _steps(tested) for key in KEYS if _is_size(step.get(key))]
    if not pixels:
        raise InputError(
            '--img-size: no transform of the test pipeline names a size: set it by --cfg-options'
        )
    old = (pixels[-1], pixels[-1]) if isinstance(pixels[-1], int) else tuple(pixels[-1])
    detects = find_task(cfg).detects
    # MMDetection's transforms take width and height, torchvision's height and width.
    expected = size if detects else size[::-1]
    lines, done = [f'--img-size {size[0]}x{size[1]}: instead of {_cross(old, detects)}'], set()
    for name, parts in _pipelines(cfg).items():
        changes = []
        for step in _steps(parts):
            for key in KEYS if id(step) not in done else ():
                new = _scale(step.get(key), key, old, expected, detects)
                if new != step.get(key):
                    changes.append(f'{type_name(step)} {step[key]} -> {new}')
                    step[key] = new
            done.add(id(step))  # a loader may be there under two names
        if changes:
            lines.append(f'  {name}: {", ".join(changes[:4])}' + ', ...' * (len(changes) > 4))
    divisor = (cfg.model.get('data_preprocessor') or {}).get('pad_size_divisor', 1)
    padded = tuple(-(-side // divisor) * divisor for side in size)
    if padded != size:
        lines.append(f'  padded to {padded[0]}x{padded[1]}: multiples of {divisor} waste nothing')
    return lines


def _pipelines(cfg: Config) -> dict[str, Any]:
    """Return all parts of a config that have transforms, by their names."""
    hooks = [{'pipeline': hook.get('switch_pipeline')} for hook in cfg.get('custom_hooks') or []]
    batches = {'pipeline': (cfg.model.get('data_preprocessor') or {}).get('batch_augments')}
    return dict(
        train=[cfg.get('train_dataloader'), hooks, batches],
        val=cfg.get('val_dataloader'),
        test=cfg.get('test_dataloader'),
        tta={'pipeline': cfg.get('tta_pipeline')},
    )


def _steps(part: Any) -> Iterator[dict[str, Any]]:
    """Yield each transform in the pipelines of a part of a config, in their order."""
    for owner in iterate_dicts(part):
        yield from iterate_dicts(owner.get('pipeline'))


def _is_size(value: Any) -> bool:
    pair = value if isinstance(value, (list, tuple)) and len(value) == 2 else [value]
    return all(isinstance(side, int) and not isinstance(side, bool) for side in pair)


def _scale(value: Any, key: str, old: tuple[int, ...], new: tuple[int, ...], turns: bool) -> Any:
    """Return what an argument of a transform becomes.

    Args:
        value: Of the config; what is no size comes back as it is.
        key: The argument.
        old: The config's size, a pair in the order in which transforms take it.
        new: The expected one, likewise.
        turns: Whether a pair may be the other way round, as MMDetection's scales: there the longer
            side counts as such.
    """
    factors = [n / o for o, n in zip(old, new, strict=True)]
    if isinstance(value, (list, tuple)):
        if not _is_size(value):
            return type(value)(_scale(part, key, old, new, turns) for part in value)
        if key in RANGES:
            factors = [max(factors)] * 2
        elif turns and (value[0] > value[1]) != (old[0] > old[1]):
            factors = factors[::-1] if value[0] != value[1] else factors
        return type(value)(map(_times, value, factors))
    if not _is_size(value):
        return value
    if factors[0] == factors[1] or turns:
        return _times(value, max(factors))
    return tuple(_times(value, factor) for factor in factors)


def _times(pixels: int, factor: float) -> int:
    return round(pixels * factor) or 1


def _cross(size: tuple[int, ...], width_first: bool) -> str:
    return '{}x{}'.format(*(size if width_first else size[::-1]))
