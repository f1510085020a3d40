"""The values that every training has: where a config keeps each, its range, what it means, in what.

One table, checked once before anything is built, so that a typing error is one line with its key
and its range. What a machine can take (a batch for its memory, threads for its cores) no table
knows: such a bound only stops what no machine takes. :func:`describe` is for an option's help.
"""

import re
from collections.abc import Collection, Mapping
from numbers import Integral, Real
from typing import Any, NamedTuple

from .errors import InputError, printable, shown

ONE, ANY = (1,), range(1000)
# Ranges that several values have.
STEPS, FROM_0, PIXELS = 'whole [1, 1000000000]', 'whole [0, 1000000000]', 'whole [1, 100000]'
LENGTH, INF = '(0, 1000000000]', float('inf')


class Value(NamedTuple):
    """A row of the table."""

    # Of a config; * stands for any one part of it, ** for any number of them, and a part of a list
    # has its type for a name.
    key: str
    range: str  # an interval, of whole numbers where it says so; or the words to choose from
    meaning: str
    also: tuple[Any, ...] = ()  # values that are taken, too
    counts: Collection[int] = ONE  # how many of them there may be in a list

    @property
    def words(self) -> str:
        """What to give, such as ``'a number above 0'``."""
        found = _INTERVAL.fullmatch(self.range)
        text = self.range.replace(' | ', ' or ')
        if found:
            whole, opening, low, high, closing = found.groups('')
            text = f'{whole}number{"s" * (self.counts != ONE)}'
            text += f' above {low}' if opening == '(' else f' from {low}'
            if high != 'inf':
                end = 'below' if closing == ')' else 'at most' if opening == '(' else ''
                text += f', {end} {high}' if end else f' to {high}'
            how_many = '' if self.counts == ANY else ' or '.join(map(str, self.counts)) + ' '
            text = f'a {text}' if self.counts == ONE else how_many + text
        return ', or '.join([text, *map(str, self.also)])

    def takes(self, value: Any) -> bool:
        """Whether a value, or each of a list, is in the range."""
        if any(type(value) is type(other) and value == other for other in self.also):
            return True
        if isinstance(value, (list, tuple)) and self.counts != ONE:
            if any(isinstance(part, (list, tuple)) for part in value):  # sizes to choose from
                return all(map(self.takes, value))
            return len(value) in self.counts and all(map(self._has, value))
        return (1 in self.counts) and self._has(value)

    def _has(self, value: Any) -> bool:
        found = _INTERVAL.fullmatch(self.range)
        if not found:
            return str(value).removeprefix('torch.') in self.range.split(' | ')
        whole, opening, low, high, closing = found.groups()
        if isinstance(value, float) and value.is_integer() and self.key.startswith('train_cfg'):
            value = int(value)  # MMEngine's loops take 57300.0, and configs of MMDetection have it
        if isinstance(value, bool) or not isinstance(value, Integral if whole else Real):
            return False
        number: Any = value
        above = number > float(low) if opening == '(' else number >= float(low)
        return above and (number < float(high) if closing == ')' else number <= float(high))


_INTERVAL = re.compile(r'(whole )?([\[(])(\S+), (\S+)([\])])')

VALUES = (
    # training
    Value('optim_wrapper.**.lr', '(0, 1000]', 'learning rate'),
    Value('optim_wrapper.**.momentum', '[0, 1)', 'momentum of SGD'),
    Value('optim_wrapper.**.betas', '[0, 1)', "Adam's two averages", counts=(2,)),
    Value('optim_wrapper.**.weight_decay', '[0, 10]', 'weight decay'),
    Value('optim_wrapper.**.eps', '[0, 1]', 'added to a denominator'),
    Value('optim_wrapper.**.max_norm', '(0, inf]', 'norm that gradients are clipped to'),
    Value('optim_wrapper.**.clip_value', '(0, inf]', 'size that gradients are clipped to'),
    Value('optim_wrapper.**.norm_type', '(0, inf]', 'which norm of the gradients', ('inf',)),
    Value('optim_wrapper.**.accumulative_counts', 'whole [1, 1000000]', 'batches per step'),
    Value('optim_wrapper.**.dtype', 'float16 | bfloat16 | float32 | float64',
          'of mixed precision', (None,)),
    Value('optim_wrapper.**.lr_mult|bias_lr_mult', '[0, 1000000]', 'factor of the learning rate'),
    Value('optim_wrapper.**.decay_mult|bias_decay_mult|norm_decay_mult|flat_decay_mult',
          '[0, 1000000]', 'factor of the weight decay'),
    Value('train_cfg.max_epochs', 'whole [1, 1000000]', 'epochs of the training'),
    Value('train_cfg.max_iters', STEPS, 'steps of the training'),
    Value('train_cfg.val_begin', FROM_0, 'first validation, in epochs or steps'),
    Value('train_cfg.val_interval', STEPS, 'epochs or steps to a validation'),
    Value('auto_scale_lr.base_batch_size', 'whole [1, 1000000]', 'images that lr is meant for'),
    Value('randomness.seed', 'whole [0, 4294967295]', 'seed of random numbers', (None,)),
    # its learning rate over time; the loops count parts of an epoch in steps
    Value('param_scheduler.**.begin', '[0, 1000000000]', 'first epoch or step'),
    Value('param_scheduler.**.end', LENGTH, 'end, in epochs or steps', (INF,)),
    Value('param_scheduler.**.milestones', '[0, 1000000000]', 'when it falls', counts=ANY),
    Value('param_scheduler.**.T_max', LENGTH, 'half a period, in epochs or steps', (None,)),
    Value('param_scheduler.**.step_size', LENGTH, 'epochs or steps to a fall'),
    Value('param_scheduler.**.total_steps', LENGTH, 'length of the cycle', (None,)),
    Value('param_scheduler.**.gamma', '(0, 10]', 'what it is multiplied by'),
    Value('param_scheduler.**.factor', '[0, 1]', 'share of the learning rate'),
    Value('param_scheduler.**.start_factor', '(0, 1]', 'share of the learning rate at first'),
    Value('param_scheduler.**.end_factor', '[0, 1]', 'share of the learning rate at last'),
    Value('param_scheduler.**.eta_min', '[0, 1000]', 'least value', (None,)),
    Value('param_scheduler.**.eta_min_ratio', '[0, 1]', 'share of the value at last', (None,)),
    Value('param_scheduler.**.warmup', '[0, 1)', 'share of the training that is warm-up'),
    Value('param_scheduler.**.length', '[1, 1000]', 'length of the cycle in trainings'),
    # hooks
    Value('default_hooks.logger.interval', STEPS, 'steps to a line of the log'),
    Value('*_hooks.**.interval', STEPS, 'epochs or steps to the next time', (-1,)),
    Value('*_hooks.**.max_keep_ckpts', 'whole [1, 1000000]', 'checkpoints that are kept', (-1,)),
    Value('*_hooks.EMAHook.momentum', '(0, 1)', 'of the averaged weights (EMA)'),
    Value('*_hooks.EMAHook.gamma', STEPS, 'warm-up of the averaged weights in steps'),
    Value('*_hooks.EMAHook.begin_epoch|begin_iter', FROM_0, 'first epoch or step of the average'),
    Value('log_processor.window_size', STEPS, 'steps of an average', ('epoch', 'global')),
    # data
    Value('*_dataloader.batch_size', 'whole [1, 65536]', 'images of a batch, for each GPU'),
    Value('*_dataloader.num_workers', 'whole [0, 1024]', 'processes that load data, for each GPU'),
    Value('*_dataloader.prefetch_factor', 'whole [1, 1024]', 'batches ahead', (None,)),
    Value('*_dataloader.**.*Resize.scale', PIXELS, 'image size in pixels', (None,), (1, 2)),
    Value('*_dataloader.**.*Resize.scales', PIXELS, 'image sizes in pixels', counts=ANY),
    Value('*_dataloader.**.img_scale', PIXELS, 'image size in pixels', counts=(2,)),
    Value('*_dataloader.**.pipeline.**.size', PIXELS, 'image size in pixels', (None,), (1, 2)),
    Value('*_dataloader.**.crop_size', '(0, 100000]', 'pixels, or share of it', (None,), (1, 2)),
    Value('*_dataloader.**.pipeline.**.prob', '[0, 1]', 'probability', (None,), ANY),
    Value('*_dataloader.**.ratio_range', '(0, 1000]', 'factors of the image size', counts=(2,)),
    # model
    Value('**.num_classes', 'whole [1, 1000000]', 'classes', (None,)),
    Value('**.backbone.in_channels', 'whole [1, 1000000]', 'channels of the images'),
    Value('**.in_channels', 'whole [1, 1000000]', 'channels of the input', counts=ANY),
    Value('**.arch.width_factor', '[0.015625, 64]', 'channels, relative to TResNet-M'),
    Value('**.arch.depths', 'whole [1, 1000]', 'blocks of the stages', counts=(4,)),
    Value('**.arch.stem_slope', '[1e-9, inf)', 'slope of the Leaky-ReLU in the stem'),
    Value('**.arch.slope', '[1e-9, inf)', 'slope of the Leaky-ReLU'),
    Value('**.frozen_stages', 'whole [-1, 1000]', 'stages that do not learn; -1: all learn'),
    Value('**.drop_path_rate', '[0, 1)', 'share of the blocks that a step skips'),
    Value('**.dropout', '[0, 1)', 'share of the features that a step drops'),
    Value('**.norm_cfg.eps', '[0, inf)', 'added to the variance'),
    Value('**.norm_cfg.momentum', '[0, 1]', 'of the running statistics', (None,)),
    Value('**.data_preprocessor.mean', '[-1000000, 1000000]', 'taken off a pixel', (None,), ANY),
    Value('**.data_preprocessor.std', '(0, 1000000]', 'that a pixel is divided by', (None,), ANY),
    Value('**.pad_size_divisor', PIXELS, 'pixels that a side is a multiple of'),
    Value('**.loss_weight', '[0, 1000000]', 'factor of a loss', counts=ANY),
    Value('**.label_smoothing', '[0, 1]', 'share of the target that all classes have'),
    Value('**.gamma_neg', '[0, inf)', 'focusing of absent labels'),
    Value('**.gamma_pos', '[0, inf)', 'focusing of present labels'),
    Value('**.loss.clip', '[0, 1)', 'probability that counts as 0 of an absent label'),
    Value('**.mixup_alpha', '[0, inf)', 'how evenly images are mixed; 0: never'),
    Value('**.cutmix_alpha', '[0, inf)', 'how evenly images are cut; 0: never'),
    Value('**.score_thr', '[0, 1]', 'least score'),
    Value('**.iou_threshold', '[0, 1]', 'IoU above which NMS drops a box'),
    Value('**.max_per_img', 'whole [1, 1000000]', 'boxes of an image at most', (-1,)),
    Value('**.nms_pre', STEPS, 'boxes of a level before NMS', (0, -1)),
)  # fmt: skip

# What a run is made of; the other keys of a config are its own notes.
PARTS = (
    *('model', 'optim_wrapper', 'train_cfg', 'param_scheduler', 'randomness', 'auto_scale_lr'),
    *('train_dataloader', 'val_dataloader', 'test_dataloader', 'default_hooks', 'custom_hooks'),
    *('log_processor', 'val_evaluator', 'test_evaluator'),
)
_ROWS: dict[str, list[tuple[re.Pattern, Value]]] = {}  # by the last part of their keys
for _row in VALUES:
    _start, _, _names = _row.key.rpartition('.')
    _start = re.escape(f'{_start}.').replace(r'\*\*\.', r'(.+\.)?').replace(r'\*', '[^.]*')
    for _name in _names.split('|'):
        _ROWS.setdefault(_name, []).append((re.compile(_start + _name), _row))


def find(key: str) -> Value | None:
    """Return the row of a key of a config, such as ``'train_dataloader.batch_size'``."""
    rows = _ROWS.get(key.rpartition('.')[2], ())
    return next((row for pattern, row in rows if pattern.fullmatch(key)), None)


def describe(key: str) -> str:
    """Return what the value of a key means and what to give, for an option's help."""
    row = find(key)
    return f'{row.meaning}: {row.words}' if row else ''


def check_value(key: str, value: Any, shown_as: str = '') -> None:
    """Raise an InputError that names key and range, where a value is not in the table's.

    Args:
        key: Of the table.
        value: Of any type.
        shown_as: The key as the user knows it.
    """
    row = find(key)
    if row is not None and not row.takes(value):
        name = printable(shown_as or key)
        raise InputError(f'{name} is {shown(value)}: give {row.words} ({row.meaning})')


def check_values(cfg: Mapping) -> None:
    """Raise an InputError for the first value of a config that is not in its range."""
    _check_nest({part: cfg.get(part) for part in PARTS}, '', '')


def _check_nest(node: Any, key: str, place: str) -> None:
    """Check what is in a nest of dicts, lists and tuples.

    Args:
        node: The nest.
        key: Of the nest and with a dot, in the table's form.
        place: The same with positions in lists.
    """
    is_dict = isinstance(node, Mapping)
    if not is_dict and not isinstance(node, (list, tuple)):
        return
    for name, value in node.items() if is_dict else enumerate(node):
        kind = value.get('type', name) if isinstance(value, Mapping) and not is_dict else name
        kind = getattr(kind, '__name__', kind)
        check_value(f'{key}{kind}', value, f'{place}{name}')
        _check_nest(value, f'{key}{kind}.', f'{place}{name}.')


def markdown() -> str:
    """Return the table as a page shows it."""
    rows = (f'| `{row.key}` | {row.meaning} | {row.words} |' for row in VALUES)
    return '\n'.join(['| key | what it is | what to give |', '|---|---|---|', *rows, ''])
