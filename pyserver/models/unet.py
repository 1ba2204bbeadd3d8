"""The waveform U-Net of MSDM and DiCoSe (after Schneider et al. 2023, `a-unet`), conditioned on a class, a noise level,
or both, and able to take the features of another such network by plain addition.

Parameter names are those of the published checkpoints below `model.unet.`. Axes: B batch, C channels, L samples or
frames, K classes, M mapping features.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True, kw_only=True)
class UNetConfig:
    """Names as in the published configurations; level `i` goes from `multipliers[i]` to `multipliers[i + 1]`."""

    in_channels: int
    channels: int
    patch_factor: int
    resnet_groups: int
    kernel_multiplier_downsample: int
    multipliers: tuple[int, ...]
    factors: tuple[int, ...]
    num_blocks: tuple[int, ...]
    attentions: tuple[bool, ...]
    attention_heads: int
    attention_features: int  # of one head
    attention_multiplier: int
    use_skip_scale: bool = True
    use_attention_bottleneck: bool = True
    context_features: int = 0  # number of classes; 0: not conditioned on a class

    def __post_init__(self) -> None:
        levels = len(self.factors)
        if not len(self.multipliers) - 1 == len(self.num_blocks) == len(self.attentions) == levels:
            raise ValueError("multipliers must have one entry more than factors, num_blocks and attentions")
        if self.channels * self.multipliers[0] % self.patch_factor:
            raise ValueError(f"{self.channels} channels cannot be dealt out to patches of {self.patch_factor} samples")

    @property
    def length_multiple(self) -> int:
        """The network takes lengths that are multiples of this."""
        return self.patch_factor * math.prod(self.factors)

    @classmethod
    def from_published(cls, raw: Mapping[str, Any]) -> "UNetConfig":
        """From a published configuration. Settings that no published network uses are refused, not ignored."""
        for name, only in (("patch_blocks", 1), ("use_nearest_upsample", False)):
            if raw.get(name, only) != only:
                raise ValueError(f"{name} = {raw[name]} is not supported, only {only}")
        known = {f.name for f in fields(cls)}
        unknown = set(raw) - known - {"patch_blocks", "use_nearest_upsample", "kernel_sizes_init"}
        if unknown:
            raise ValueError(f"the U-Net has no settings {', '.join(sorted(unknown))}")
        picked: dict[str, Any] = {k: tuple(v) if isinstance(v, Sequence) else v for k, v in raw.items() if k in known}
        return cls(**picked)


class GainNorm(nn.Module):
    """Layer norm with a gain and no bias. `conv` normalises axis 1 of (B, C, L), else the last axis."""

    def __init__(self, features: int, *, conv: bool) -> None:
        super().__init__()
        self.axis = 1 if conv else -1
        self.g = nn.Parameter(torch.ones(1, features, 1) if conv else torch.ones(features))

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(x, dim=self.axis, unbiased=False, keepdim=True)
        return (x - mean) * (variance + 1e-5).rsqrt() * self.g


class ConvBlock(nn.Module):
    """Group norm, optional scale and shift, SiLU, convolution."""

    def __init__(self, channels_in: int, channels_out: int, groups: int) -> None:
        super().__init__()
        self.groupnorm = nn.GroupNorm(groups, channels_in)
        self.project = nn.Conv1d(channels_in, channels_out, kernel_size=3, padding=1)

    def forward(self, x: Tensor, scale_shift: tuple[Tensor, Tensor] | None = None) -> Tensor:
        x = self.groupnorm(x)
        if scale_shift is not None:
            x = x * (1 + scale_shift[0]) + scale_shift[1]
        return self.project(nn.functional.silu(x))  # type: ignore[no-any-return]


class ScaleShift(nn.Module):
    """(B, M) -> two times (B, C, 1)."""

    def __init__(self, mapping_features: int, channels: int) -> None:
        super().__init__()
        self.to_scale_shift = nn.Sequential(nn.SiLU(), nn.Linear(mapping_features, channels * 2))

    def forward(self, mapping_BM: Tensor) -> tuple[Tensor, Tensor]:
        scale, shift = self.to_scale_shift(mapping_BM)[..., None].chunk(2, dim=1)
        return scale, shift


class ResidualBlock(nn.Module):
    """Two convolution blocks; the mapping acts in the second one."""

    def __init__(self, channels_in: int, channels_out: int, groups: int, mapping_features: int) -> None:
        super().__init__()
        self.block1 = ConvBlock(channels_in, channels_out, groups)
        self.to_scale_shift = ScaleShift(mapping_features, channels_out)
        self.block2 = ConvBlock(channels_out, channels_out, groups)
        self.to_out = nn.Conv1d(channels_in, channels_out, 1) if channels_in != channels_out else nn.Identity()

    def forward(self, x: Tensor, mapping_BM: Tensor) -> Tensor:
        hidden = self.block2(self.block1(x), self.to_scale_shift(mapping_BM))
        return hidden + self.to_out(x)  # type: ignore[no-any-return]


class _Attend(nn.Module):
    """Heads to output. A module of its own only because the published names say `attention.to_out`."""

    def __init__(self, features: int, heads: int, head_features: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_out = nn.Sequential(
            nn.Linear(heads * head_features, features, bias=False), GainNorm(features, conv=False)
        )

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (t.reshape(*t.shape[:2], self.heads, -1).transpose(1, 2) for t in (q, k, v))
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.to_out(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class SelfAttention(nn.Module):
    """(B, C, L) -> (B, C, L), without residual."""

    def __init__(self, features: int, heads: int, head_features: int) -> None:
        super().__init__()
        self.norm = GainNorm(features, conv=False)
        self.to_q = nn.Linear(features, heads * head_features, bias=False)
        self.to_kv = nn.Linear(features, heads * head_features * 2, bias=False)
        self.attention = _Attend(features, heads, head_features)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm(x.transpose(1, 2))
        k, v = self.to_kv(tokens).chunk(2, dim=-1)
        return self.attention(self.to_q(tokens), k, v).transpose(1, 2)  # type: ignore[no-any-return]


class _Wrapped(nn.Module):
    """Holds a module as `fn`, as the published names have it, with or without a residual."""

    def __init__(self, fn: nn.Module, *, residual: bool) -> None:
        super().__init__()
        self.fn = fn
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fn(x)
        return out + x if self.residual else out


class TransformerBlock(nn.Module):
    """Attention and feed-forward over frames, both with residual."""

    def __init__(self, features: int, config: UNetConfig) -> None:
        super().__init__()
        attention = SelfAttention(features, config.attention_heads, config.attention_features)
        hidden = features * config.attention_multiplier
        self.attention = _Wrapped(attention, residual=True)
        self.feed_forward = nn.Sequential(
            GainNorm(features, conv=True),
            nn.Conv1d(features, hidden, 1, bias=False),
            nn.GELU(),
            GainNorm(hidden, conv=True),
            nn.Conv1d(hidden, features, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.attention(x)
        return self.feed_forward(x) + x  # type: ignore[no-any-return]


class _PatchModule(nn.Module):
    def __init__(self, channels_in: int, channels_out: int, groups: int, mapping_features: int) -> None:
        super().__init__()
        self.block = ResidualBlock(channels_in, channels_out, groups, mapping_features)

    def forward(self, x: Tensor, mapping_BM: Tensor) -> Tensor:
        return self.block(x, mapping_BM)  # type: ignore[no-any-return]


class Patch(nn.Module):
    """(B, C, L) -> (B, channels, L / patch): neighbouring samples become channels, channel-major."""

    def __init__(self, config: UNetConfig, mapping_features: int) -> None:
        super().__init__()
        self.patch = config.patch_factor
        channels_out = config.channels * config.multipliers[0] // self.patch
        groups = min(self.patch, config.in_channels)
        self.module_list = nn.ModuleList([_PatchModule(config.in_channels, channels_out, groups, mapping_features)])

    def forward(self, x: Tensor, mapping_BM: Tensor) -> Tensor:
        x = self.module_list[0](x, mapping_BM)
        batch, channels, length = x.shape
        return x.reshape(batch, channels, length // self.patch, self.patch).transpose(2, 3).flatten(1, 2)


class Unpatch(nn.Module):
    """The reverse of Patch."""

    def __init__(self, config: UNetConfig, mapping_features: int) -> None:
        super().__init__()
        self.patch = config.patch_factor
        channels_in = config.channels * config.multipliers[0] // self.patch
        groups = min(self.patch, config.in_channels)
        self.module_list = nn.ModuleList([_PatchModule(channels_in, config.in_channels, groups, mapping_features)])

    def forward(self, x: Tensor, mapping_BM: Tensor) -> Tensor:
        batch, channels, frames = x.shape
        x = x.reshape(batch, channels // self.patch, self.patch, frames).transpose(2, 3).flatten(2, 3)
        return self.module_list[0](x, mapping_BM)  # type: ignore[no-any-return]


class EncoderLevel(nn.Module):
    """Downsampling, residual blocks, and a transformer on the deeper levels."""

    def __init__(self, config: UNetConfig, level: int, mapping_features: int) -> None:
        super().__init__()
        channels_in, channels = (config.channels * m for m in config.multipliers[level : level + 2])
        factor, kernel = config.factors[level], config.kernel_multiplier_downsample
        self.downsample = nn.Conv1d(
            channels_in, channels, kernel_size=factor * kernel + 1, stride=factor, padding=factor * (kernel // 2)
        )
        self.blocks = nn.ModuleList(
            ResidualBlock(channels, channels, config.resnet_groups, mapping_features)
            for _ in range(config.num_blocks[level])
        )
        self.transformer = TransformerBlock(channels, config) if config.attentions[level] else None

    def forward(self, x: Tensor, mapping_BM: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The level's output, and its skips in the order in which they arise."""
        x = self.downsample(x)
        skips = []
        for block in self.blocks:
            x = block(x, mapping_BM)
            skips.append(x)
        if self.transformer is not None:
            x = self.transformer(x)
            skips.append(x)
        return x, skips


class DecoderLevel(nn.Module):
    """Residual blocks that take one skip each, a transformer on the deeper levels, upsampling."""

    def __init__(self, config: UNetConfig, level: int, mapping_features: int) -> None:
        super().__init__()
        channels_out, channels = (config.channels * m for m in config.multipliers[level : level + 2])
        factor = config.factors[level]
        self.skip_scale = 2**-0.5 if config.use_skip_scale else 1.0
        self.blocks = nn.ModuleList(
            ResidualBlock(channels * 2, channels, config.resnet_groups, mapping_features)
            for _ in range(config.num_blocks[level] + config.attentions[level])
        )
        self.transformer = TransformerBlock(channels, config) if config.attentions[level] else None
        self.upsample = nn.ConvTranspose1d(
            channels,
            channels_out,
            kernel_size=factor * 2,
            stride=factor,
            padding=factor // 2 + factor % 2,
            output_padding=factor % 2,
        )

    def forward(self, x: Tensor, skips: list[Tensor], mapping_BM: Tensor) -> Tensor:
        for block, skip in zip(self.blocks, reversed(skips), strict=True):
            x = block(torch.cat([x, skip * self.skip_scale], dim=1), mapping_BM)
        if self.transformer is not None:
            x = self.transformer(x)
        return self.upsample(x)  # type: ignore[no-any-return]


class Bottleneck(nn.Module):
    """Residual block, attention without residual (as published), residual block."""

    def __init__(self, config: UNetConfig, mapping_features: int) -> None:
        super().__init__()
        channels = config.channels * config.multipliers[-1]
        self.pre_block = ResidualBlock(channels, channels, config.resnet_groups, mapping_features)
        self.attention: nn.Module = nn.Identity()
        if config.use_attention_bottleneck:
            attention = SelfAttention(channels, config.attention_heads, config.attention_features)
            self.attention = _Wrapped(attention, residual=False)
        self.post_block = ResidualBlock(channels, channels, config.resnet_groups, mapping_features)

    def forward(self, x: Tensor, mapping_BM: Tensor) -> Tensor:
        return self.post_block(self.attention(self.pre_block(x, mapping_BM)), mapping_BM)  # type: ignore[no-any-return]


class LearnedFourier(nn.Module):
    """(B) -> (B, 1 + features): the value itself, sines and cosines of learned frequencies."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.randn(features // 2))

    def forward(self, value_B: Tensor) -> Tensor:
        phase = value_B[:, None] * self.weights[None] * 2 * math.pi
        return torch.cat([value_B[:, None], phase.sin(), phase.cos()], dim=-1)


class UNet(nn.Module):
    """`timed` networks take the noise level (the refiner), others do not (the separator)."""

    def __init__(self, config: UNetConfig, *, timed: bool) -> None:
        super().__init__()
        if not timed and not config.context_features:
            raise ValueError("a U-Net is conditioned on the noise level, on a class, or on both")
        self.config = config
        mapping = config.channels * 4
        levels = range(len(config.factors))
        if timed:
            embed = nn.Sequential(LearnedFourier(config.channels), nn.Linear(config.channels + 1, mapping))
            self.to_time = nn.Sequential(embed, nn.GELU())
        if config.context_features:
            self.to_features = nn.Sequential(nn.Linear(config.context_features, mapping), nn.GELU())
        self.to_mapping = nn.Sequential(nn.Linear(mapping, mapping), nn.GELU(), nn.Linear(mapping, mapping), nn.GELU())
        self.to_in = Patch(config, mapping)
        self.downsamples = nn.ModuleList(EncoderLevel(config, level, mapping) for level in levels)
        self.bottleneck = Bottleneck(config, mapping)
        self.upsamples = nn.ModuleList(DecoderLevel(config, level, mapping) for level in reversed(levels))
        self.to_out = Unpatch(config, mapping)

    def mapping(self, c_noise_B: Tensor | None, class_BK: Tensor | None) -> Tensor:
        """What drives every scale and shift, (B, M)."""
        parts = []
        if c_noise_B is not None:
            parts.append(self.to_time(c_noise_B))
        if class_BK is not None:
            parts.append(self.to_features(class_BK))
        return self.to_mapping(sum(parts))  # type: ignore[no-any-return]

    def forward(
        self,
        x_BCL: Tensor,
        *,
        c_noise_B: Tensor | None = None,
        class_BK: Tensor | None = None,
        injected: Sequence[Tensor] | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """The output (B, C, L) and the features, the input first and the output last; L: `config.length_multiple`.

        `injected` are the features of another network on the same grid (its last, the output, is not used).
        """
        add = _Injection(injected)
        mapping = self.mapping(c_noise_B, class_BK)
        features = [x_BCL]
        x = long_skip = self.to_in(add(x_BCL, 0), mapping)
        all_skips = []
        for level in self.downsamples:
            features.append(x)
            x, skips = level(add(x, len(features) - 1), mapping)
            all_skips.append(skips)
        features.append(x)
        x = self.bottleneck(add(x, len(features) - 1), mapping)
        for level in self.upsamples:
            features.append(x)
            x = level(add(x, len(features) - 1), all_skips.pop(), mapping)
        x = x + long_skip
        features.append(x)
        x = self.to_out(add(x, len(features) - 1), mapping)
        return x, [*features, x]


class _Injection:
    """Plain addition of feature number `index`, or nothing."""

    def __init__(self, features: Sequence[Tensor] | None) -> None:
        self.features = features

    def __call__(self, x: Tensor, index: int) -> Tensor:
        return x if self.features is None else x + self.features[index]
