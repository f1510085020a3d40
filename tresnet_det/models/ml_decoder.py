"""ML-Decoder, an attention-based classification head (Ridnik et al., arXiv 2111.12933)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from torch import nn

from ..checkpoints.formats import rename_head
from ..errors import InputError, MissingFileError
from ..values import check_value
from .heads import ClsHead, LossConfig

MAX_GROUPS = 100  # that num_groups=-1 stands for, as in the authors' code


@MODELS.register_module()
class MLDecoderHead(ClsHead):
    """One query for each group of classes looks at the feature map by cross-attention.

    The map is projected to ``embed_dims``; the queries pass one transformer decoder layer without
    self-attention, so that its cost is linear in them; then each query's embedding gives the logits
    of its group. With ``query_embeddings``, a query is a class's word vector and all share one
    fully-connected layer, whose weights then serve any classes: for zero-shot classification, build
    another head with other word vectors and load the same weights.

    Args:
        in_channels: Channels of the feature map.
        num_classes: Classes.
        num_groups: Queries, from 1, at most as many as classes; -1 is 100.
        embed_dims: Width of the decoder, a multiple of 8.
        loss: See :class:`ClsHead`.
        dropout: Rate of the decoder's dropout, in [0, 1).
        learn_queries: Whether the queries are trained. Random ones that stay as they are serve as
            well, the paper finds, and are what the authors' code has.
        query_embeddings: Word vectors, ``(num_classes, d)``, as a tensor or as a ``.npy`` or
            ``.pth`` file with nothing else in it. They are no part of the state dict.
        init_cfg: See :class:`ClsHead`; None for random weights.

    Raises:
        MissingFileError: If there is no such file of word vectors.
        InputError: If an argument is out of its range (a ``ValueError``).

    Examples:
        >>> import torch
        >>> head = MLDecoderHead(2048, num_classes=80)
        >>> head(torch.rand(2, 2048, 14, 14)).shape
        torch.Size([2, 80])
    """

    num_heads = 8
    feedforward_channels = 2048

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        num_groups: int = -1,
        embed_dims: int = 768,
        loss: LossConfig = dict(type='AsymmetricLoss'),  # noqa: B006, B008  (read, never written)
        dropout: float = 0.1,
        learn_queries: bool = False,
        query_embeddings: torch.Tensor | str | Path | None = None,
        init_cfg: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(in_channels, num_classes, loss, init_cfg)
        if num_groups != -1 and num_groups < 1:
            raise InputError(f'num_groups must be at least 1, or -1 for 100, got {num_groups}')
        if embed_dims < 1 or embed_dims % self.num_heads:
            raise InputError(
                f'embed_dims must be a multiple of {self.num_heads}, the attention heads, got '
                f'{embed_dims}'
            )
        check_value('head.dropout', dropout)
        self.input_proj = nn.Linear(in_channels, embed_dims)
        self.layer = CrossAttentionLayer(
            embed_dims, self.num_heads, self.feedforward_channels, dropout
        )
        if query_embeddings is None:
            wanted = MAX_GROUPS if num_groups == -1 else num_groups
            self.num_groups = min(wanted, num_classes)
            self.query_embed = nn.Embedding(self.num_groups, embed_dims)
            self.query_embed.requires_grad_(learn_queries)
            self.group_fc: nn.Module = GroupLinear(self.num_groups, embed_dims, num_classes)
            return
        if num_groups != -1 or learn_queries:
            raise InputError(
                'query_embeddings give each class a query of its own: leave num_groups and '
                'learn_queries out'
            )
        words = _read_word_vectors(query_embeddings, num_classes)
        self.num_groups = num_classes
        # Not saved: the same weights serve other classes.
        self.register_buffer('word_vectors', words, persistent=False)
        self.query_proj = nn.Linear(words.shape[1], embed_dims)
        self.group_fc = nn.Linear(embed_dims, 1)
        nn.init.xavier_normal_(self.group_fc.weight)
        nn.init.zeros_(self.group_fc.bias)

    def forward(self, feats: torch.Tensor | Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the logits, ``(N, num_classes)``.

        Args:
            feats: ``(N, in_channels, H, W)``, or a backbone's feature maps with that as the last.

        Raises:
            InputError: If it has another number of channels.
        """
        x = self.last_feature_map(feats).flatten(2).transpose(1, 2)  # (N, H * W, in_channels)
        x = F.relu(self.input_proj(x))  # (N, H * W, embed_dims)
        queries = self.queries().expand(x.shape[0], -1, -1)  # (N, num_groups, embed_dims)
        return self.group_fc(self.layer(queries, x)).flatten(1)

    def queries(self) -> torch.Tensor:
        """Return the queries that the decoder begins with, ``(num_groups, embed_dims)``."""
        if hasattr(self, 'query_embed'):
            return self.query_embed.weight
        return F.relu(self.query_proj(self.word_vectors))

    def _load_from_state_dict(
        self, state_dict: dict[str, torch.Tensor], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        own = {k.removeprefix(prefix): k for k in list(state_dict) if k.startswith(prefix)}
        weights = {k: state_dict.pop(key) for k, key in own.items()}
        state_dict.update({prefix + k: v for k, v in rename_head(weights).items()})
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


class CrossAttentionLayer(nn.Module):
    """Transformer decoder layer without self-attention, norms after the sums (paper).

    Args:
        embed_dims: Width.
        num_heads: Heads of the attention.
        feedforward_channels: Channels between the two fully-connected layers.
        dropout: Rate, in [0, 1).
    """

    def __init__(
        self, embed_dims: int, num_heads: int, feedforward_channels: int, dropout: float
    ) -> None:
        super().__init__()
        self.multihead_attn = nn.MultiheadAttention(
            embed_dims, num_heads, dropout=dropout, batch_first=True
        )
        self.linear1 = nn.Linear(embed_dims, feedforward_channels)
        self.linear2 = nn.Linear(feedforward_channels, embed_dims)
        self.norm1 = nn.LayerNorm(embed_dims)
        self.norm2 = nn.LayerNorm(embed_dims)
        self.norm3 = nn.LayerNorm(embed_dims)
        self.dropout = nn.Dropout(dropout)

    def forward(self, queries: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
        """Return the queries' embeddings, ``(N, Q, embed_dims)``.

        Args:
            queries: ``(N, Q, embed_dims)``.
            memory: What they look at, ``(N, H * W, embed_dims)``.
        """
        # The first sum is what is left of self-attention; the published weights count on it.
        x = self.norm1(queries + self.dropout(queries))
        attended = self.multihead_attn(x, memory, memory, need_weights=False)[0]
        x = self.norm2(x + self.dropout(attended))
        hidden = self.dropout(F.relu(self.linear1(x)))  # (N, Q, feedforward_channels)
        return self.norm3(x + self.dropout(self.linear2(hidden)))


class GroupLinear(nn.Module):
    """Fully-connected layers, one for each group of classes (paper).

    Group ``i`` has the classes from ``i * group_size``; the last groups may be short of some.

    Args:
        num_groups: Groups.
        embed_dims: Channels of each group's embedding.
        num_classes: Classes of all groups together.
    """

    def __init__(self, num_groups: int, embed_dims: int, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        group_size = -(-num_classes // num_groups)
        self.weight = nn.Parameter(torch.empty(num_groups, embed_dims, group_size))
        self.bias = nn.Parameter(torch.zeros(num_classes))
        # As the authors draw it, with torch's notion of the fans of three dimensions.
        nn.init.xavier_normal_(self.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits, ``(N, num_classes)``.

        Args:
            x: ``(N, num_groups, embed_dims)``.
        """
        logits = torch.einsum('nqd,qdg->nqg', x, self.weight)  # (N, num_groups, group_size)
        return logits.flatten(1)[:, : self.num_classes] + self.bias


def _read_word_vectors(source: torch.Tensor | str | Path, num_classes: int) -> torch.Tensor:
    """Return ``(num_classes, d)`` of float32 out of a tensor or a file."""
    name = 'query_embeddings'
    if not isinstance(source, torch.Tensor):
        name, path = f'query_embeddings {source}', Path(source).expanduser()
        if not path.is_file():
            raise MissingFileError(f'{path}: no such file of query_embeddings')
        try:
            if path.suffix == '.npy':
                source = torch.from_numpy(np.load(path, allow_pickle=False))
            else:
                source = torch.load(path, map_location='cpu', weights_only=True)
        except Exception as error:  # a corrupt file can fail in any way at all
            raise InputError(f'{name}: not a .npy array or a tensor of torch.save') from error
        if not isinstance(source, torch.Tensor):
            raise InputError(f'{name}: holds a {type(source).__name__}, not a tensor')
    if source.dim() != 2 or len(source) != num_classes:
        raise InputError(
            f'{name}: must be (num_classes, d) with num_classes={num_classes}, got '
            f'{tuple(source.shape)}'
        )
    return source.detach().float().clone()
