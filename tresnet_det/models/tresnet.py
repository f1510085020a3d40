"""The backbone as MMDetection's configs name it: registered, with an ``init_cfg``."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from mmdet.registry import MODELS
from mmengine.model import BaseModule

from .. import backbone
from ..errors import InputError, check_init_cfg


@MODELS.register_module()
class TResNet(backbone.TResNet, BaseModule):
    """:class:`tresnet_det.backbone.TResNet`, whose arguments it takes, as a module of MMEngine's.

    In a data preprocessor, its input is ``mean=[0, 0, 0], std=[255, 255, 255], bgr_to_rgb=True``.

    Args:
        init_cfg: ``dict(type='Pretrained', checkpoint=...)`` for a file in the published, timm's or
            this project's format, or ``timm://NAME`` for the hub; None for random weights.
        arch: Of the backbone, as the others are.

    Raises:
        InputError: If an argument is out of its range (a ``ValueError``).
    """

    init_cfg: Any

    def __init__(
        self,
        arch: str | Mapping[str, Any] = 'm',
        in_channels: int = 3,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        frozen_stages: int = -1,
        norm_eval: bool = False,
        norm_cfg: Mapping[str, Any] = dict(type='InPlaceABN'),  # noqa: B006  (read, never written)
        with_cp: bool = False,
        drop_path_rate: float = 0.0,
        init_cfg: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        recompute_outputs: bool = False,
    ) -> None:
        check_init_cfg(init_cfg)
        super().__init__(
            arch, in_channels, out_indices, frozen_stages, norm_eval, norm_cfg, with_cp,
            drop_path_rate, recompute_outputs,
        )  # fmt: skip
        self.init_cfg = copy.deepcopy(init_cfg)

    def init_weights(self) -> None:
        """Load the weights that ``init_cfg`` names, or keep those drawn at construction.

        Raises:
            InputError: If the checkpoint is missing, unreadable or of another arch.
        """
        init_cfg = self.init_cfg
        configs = [init_cfg] if isinstance(init_cfg, Mapping) else init_cfg or []
        pretrained = [cfg for cfg in configs if cfg['type'] == 'Pretrained']
        if len(pretrained) < len(configs):  # mmengine applies all others
            self.init_cfg = [cfg for cfg in configs if cfg['type'] != 'Pretrained']
            try:
                super().init_weights()
            finally:
                self.init_cfg = init_cfg
        for cfg in pretrained:
            self._load_pretrained(**{k: v for k, v in cfg.items() if k != 'type'})
        self.is_init = True

    def _load_pretrained(self, checkpoint: str, **others: Any) -> None:
        if others:
            raise InputError(f'init_cfg of TResNet takes type and checkpoint, not {list(others)}')
        try:
            self.load_pretrained(checkpoint)
        except InputError as error:
            raise type(error)(
                f'{error}; give a file (--pretrained FILE, or checkpoint of init_cfg) or train '
                'from scratch (--from-scratch)'
            ) from error
