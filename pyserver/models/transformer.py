"""RoFormer blocks: gated attention with rotary positions and feed-forward layers, for BS-RoFormer and Diff-VS.

Axes: Q whatever serves as the batch of a transformer, n positions, D width, B batch, M mapping features.
"""

import math
from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor, nn

_FEED_FORWARD_MULTIPLIER = 4
TOKENS_AT_ONCE = 4096
"""On a CPU without gradients: few enough that what a layer holds in between stays out of main memory for the most part,
and in blocks that the C library hands out again without asking the system."""


class RMSNorm(nn.Module):
    """`x / ‖x‖ * √dim * gain` over the last axis."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.scale = math.sqrt(dim)
        self.gamma = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        unit: Tensor = nn.functional.normalize(x, dim=-1)
        return unit * self.scale * self.gamma


class Rotary(nn.Module):
    """Rotary position embedding on adjacent pairs. One object serves all transformers along one axis."""

    def __init__(self, dim_head: int) -> None:
        super().__init__()
        freqs = 10000.0 ** (-torch.arange(0, dim_head, 2).float() / dim_head)
        self.freqs = nn.Parameter(freqs, requires_grad=False)

    def forward(self, length: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines as `rotate_pairs` takes them, each (length, dim_head)."""
        angles = torch.arange(length, device=self.freqs.device, dtype=self.freqs.dtype)[:, None] * self.freqs
        cos, sin = angles.cos(), angles.sin()
        return torch.stack([cos, cos], dim=-1).flatten(-2), torch.stack([-sin, sin], dim=-1).flatten(-2)


def rotate_pairs(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotates (..., length, dim_head) by the angles of `Rotary`: half the passes over memory of even and odd apart."""
    swapped = x.reshape(*x.shape[:-1], -1, 2).flip(-1).flatten(-2)
    return x * cos + swapped * sin


class ScaleShift(nn.Module):
    """Scale and shift of a normalised (Q, n, D) by the mapping; a (B, M) mapping holds for Q / B rows each."""

    def __init__(self, mapping: int, dim: int) -> None:
        super().__init__()
        self.to_scale_shift = nn.Sequential(nn.GELU(), nn.Linear(mapping, dim * 2))

    def forward(self, x: Tensor, mapping_BM: Tensor) -> Tensor:
        both: Tensor = self.to_scale_shift(mapping_BM)[:, None, None]
        scale, shift = both.chunk(2, dim=-1)
        rows = x.reshape(mapping_BM.shape[0], -1, *x.shape[1:])
        return (rows * (1 + scale) + shift).reshape(x.shape)


class TransformerSettings(Protocol):
    """What a transformer must be told; a BSRoformerConfig says it, and more."""

    @property
    def dim(self) -> int: ...
    @property
    def heads(self) -> int: ...
    @property
    def dim_head(self) -> int: ...
    @property
    def attn_dropout(self) -> float: ...
    @property
    def ff_dropout(self) -> float: ...


class Attention(nn.Module):
    """Norm, rotary attention with a gate a head, projection; without residual. `mapping` 0: not conditioned."""

    def __init__(self, config: TransformerSettings, rotary: Rotary, mapping: int) -> None:
        super().__init__()
        inner = config.heads * config.dim_head
        self.heads, self.dropout = config.heads, config.attn_dropout
        self.rotary_embed = rotary
        self.norm = RMSNorm(config.dim)
        self.to_scale_shift = ScaleShift(mapping, config.dim) if mapping else None
        self.to_qkv = nn.Linear(config.dim, inner * 3, bias=False)
        self.to_gates = nn.Linear(config.dim, config.heads)
        self.to_out = nn.Sequential(nn.Linear(inner, config.dim, bias=False), nn.Dropout(config.attn_dropout))

    def forward(self, x: Tensor, mapping_BM: Tensor | None) -> Tensor:
        x = self.norm(x)
        if self.to_scale_shift is not None:
            x = self.to_scale_shift(x, mapping_BM)
        rows, length, _ = x.shape
        q, k, v = self.to_qkv(x).reshape(rows, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        cos, sin = self.rotary_embed(length)
        mixed = nn.functional.scaled_dot_product_attention(
            rotate_pairs(q, cos, sin), rotate_pairs(k, cos, sin), v, dropout_p=self.dropout if self.training else 0.0
        )
        gated = mixed * self.to_gates(x).sigmoid().transpose(1, 2)[..., None]
        return self.to_out(gated.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class FeedForward(nn.Module):
    """Norm, expansion, GELU, projection; without residual."""

    def __init__(self, config: TransformerSettings, mapping: int) -> None:
        super().__init__()
        hidden = config.dim * _FEED_FORWARD_MULTIPLIER
        self.to_scale_shift = ScaleShift(mapping, config.dim) if mapping else None
        self.net = nn.Sequential(
            RMSNorm(config.dim),
            nn.Linear(config.dim, hidden),
            nn.GELU(),
            nn.Dropout(config.ff_dropout),
            nn.Linear(hidden, config.dim),
            nn.Dropout(config.ff_dropout),
        )

    def forward(self, x: Tensor, mapping_BM: Tensor | None) -> Tensor:
        x = self.net[0](x)
        if self.to_scale_shift is not None:
            x = self.to_scale_shift(x, mapping_BM)
        return self.net[1:](x)  # type: ignore[no-any-return]


class Transformer(nn.Module):
    """(Q, n, D) -> (Q, n, D); no norm at the end."""

    def __init__(self, config: TransformerSettings, depth: int, rotary: Rotary, mapping: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleList([Attention(config, rotary, mapping), FeedForward(config, mapping)]) for _ in range(depth)
        )

    def forward(self, x: Tensor, mapping_BM: Tensor | None) -> Tensor:
        if not in_parts(x):
            return self._all(x, mapping_BM)
        out = x.clone()
        items = [None] if mapping_BM is None else torch.split(mapping_BM, 1)
        for own, mapping in zip(out.chunk(len(items)), items, strict=True):
            self.overwrite(own, mapping)
        return out

    def overwrite(self, x: Tensor, mapping_1M: Tensor | None) -> None:
        """Some rows at a time, in their place; without gradients, and for one item if conditioned."""
        for part in torch.split(x, max(1, TOKENS_AT_ONCE // x.shape[1])):
            part.copy_(self._all(part, mapping_1M))

    def _all(self, x: Tensor, mapping_BM: Tensor | None) -> Tensor:
        for attention, feed_forward in pairs(self.layers):
            x = x + attention(x, mapping_BM)
            x = x + feed_forward(x, mapping_BM)
        return x


def in_parts(x: Tensor) -> bool:
    """Whether rows are computed some at a time: they do not depend on each other, and the work is for a CPU now."""
    return x.device.type == "cpu" and not torch.is_grad_enabled() and not torch.compiler.is_compiling()


def pairs(layers: nn.ModuleList) -> Iterator[tuple[nn.Module, nn.Module]]:
    """The entries of a list of pairs, typed."""
    for pair in layers:
        assert isinstance(pair, nn.ModuleList)
        yield pair[0], pair[1]
