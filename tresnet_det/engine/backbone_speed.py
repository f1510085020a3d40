"""Channels-last and torch.compile for any config's backbone."""

from typing import Any

import torch
from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from ..errors import InputError
from ..tasks import unwrapped


@HOOKS.register_module()
class BackboneSpeedHook(Hook):
    """Run the backbone in channels-last layout, compiled, or both; nothing else changes.

    For ``custom_hooks`` of any config whose model has a ``backbone``, in training, validation and
    testing. The model is changed in place before anything is loaded, so that names and values of
    its state stay as they are; checkpoints hold ordinary contiguous tensors. The head and the
    neck take the backbone's features in whatever layout they come. Under DDP, torch warns once of
    strides that changed: it arranges its buckets again after the first iteration.

    Args:
        channels_last: Keep the weights of the convolutions in channels-last layout and bring the
            input into it.
        compile: Compile the backbone by :func:`torch.compile`, or with these arguments of it
            (``dict(mode='max-autotune', dynamic=True)``). It is compiled when it first runs, and
            again for new sizes of the input.
    """

    # After the EMA hook, which puts its averages into the checkpoint that is to be saved.
    priority = 'LOW'

    def __init__(self, channels_last: bool = False, compile: bool | dict[str, Any] = False) -> None:
        if not isinstance(compile, bool | dict):
            raise InputError(
                f'BackboneSpeedHook: compile={compile!r} is not True, False or a dict of the '
                'arguments of torch.compile.'
            )
        self.channels_last = channels_last
        self.compile = compile

    def before_run(self, runner: Runner) -> None:
        """Change the backbone; a runner that goes from training to testing finds it done.

        Raises:
            InputError: The model has no backbone.
        """
        model = unwrapped(runner.model)
        backbone = getattr(model, 'backbone', None)
        if not isinstance(backbone, nn.Module):
            raise InputError(
                f'BackboneSpeedHook: {type(model).__name__} has no backbone: leave the hook out '
                'of custom_hooks.'
            )
        if self.channels_last:
            backbone.to(memory_format=torch.channels_last)
            if _to_channels_last not in backbone._forward_pre_hooks.values():
                backbone.register_forward_pre_hook(_to_channels_last)
        if self.compile is not False and backbone._compiled_call_impl is None:
            backbone.compile(**(self.compile if isinstance(self.compile, dict) else {}))

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Save contiguous tensors, which every reader takes (safetensors takes no others)."""
        for part in ('state_dict', 'ema_state_dict') if self.channels_last else ():
            for key, value in checkpoint.get(part, {}).items():
                if isinstance(value, torch.Tensor):
                    checkpoint[part][key] = value.contiguous()


# A function of the module: the EMA hook copies the model with its hooks.
def _to_channels_last(backbone: nn.Module, inputs: tuple) -> tuple:
    return tuple(
        x.contiguous(memory_format=torch.channels_last)
        if isinstance(x, torch.Tensor) and x.dim() == 4
        else x
        for x in inputs
    )
