"""The raw network F of Diff-VS: EDM's DDPM++ U-Net over bands instead of bins, with RoFormer blocks for attention.

P marks what is published of the model (arXiv 2604.01120), O what we chose. P: a U-Net after DDPM++ (Song et al. 2021,
as in Karras et al. 2022), no down-sampling in time, a band split, pixel attention replaced by a transformer over time
and one over frequency with rotary positions, a sinusoidal embedding of the noise level.
O: all sizes; the embedding scales and shifts every block; levels halve the bands; what the head gives for every bin.

Axes: B batch, T frames, F bins, V values in a bin, K bands, D width, E width of the noise embedding.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyserver.models.band_split import BandMerge, BandSplit
from pyserver.models.stft import StftSpec
from pyserver.models.transformer import Rotary, Transformer

SKIP_SCALE = math.sqrt(0.5)
"""A sum of two signals of one variance has that variance again."""
LOWEST_FREQUENCY, HIGHEST_FREQUENCY = 0.1, 4.0
"""Of the embedding, in radians a unit of ln(sigma) / 4 (O): slow enough to say something of levels hardly trained."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffVSConfig:
    """`bands` lists (how many, bins in each) from DC upwards; level `i` has `dim · multipliers[i]` channels and
    1 / 2^i of the bands. `attention_levels` says after which levels' blocks the dual-path transformers come.

    Raises ValueError for bands that do not cover the spectrum or cannot be halved, and for impossible widths.
    """

    channels: int = 2
    n_fft: int = 2048
    hop_length: int = 512
    alpha: float = 0.5  # exponent and factor of the amplitude transform
    beta: float = 0.15
    bands: tuple[tuple[int, int], ...] = ((24, 2), (12, 4), (8, 8), (8, 16), (8, 40), (3, 104), (1, 105))
    dim: int = 128
    multipliers: tuple[int, ...] = (1, 2, 2, 2)
    blocks: int = 2
    attention_levels: tuple[int, ...] = (2, 3)
    dim_head: int = 64
    dropout: float = 0.1
    head_hidden: int = 128
    sigma_data: float = 0.5
    sigma_min: float = 0.002
    sigma_max: float = 80.0

    def __post_init__(self) -> None:
        covered, bins = sum(count * width for count, width in self.bands), self.n_fft // 2 + 1
        halvings = 2 ** (len(self.multipliers) - 1)
        if covered != bins:
            raise ValueError(f"bands cover {covered} bins, n_fft {self.n_fft} has {bins}")
        if not self.multipliers or self.band_count % halvings:
            raise ValueError(f"{self.band_count} bands cannot be halved {len(self.multipliers) - 1} times")
        if self.channels not in (1, 2):
            raise ValueError(f"audio is mono or stereo, not of {self.channels} channels")
        if not 0 < self.alpha <= 1 or self.beta <= 0:
            raise ValueError(
                f"the amplitude transform wants 0 < alpha <= 1 and beta > 0, not {self.alpha}, {self.beta}"
            )
        if self.dim < 8 or self.dim % 8:
            raise ValueError(f"dim must be a multiple of 8, not {self.dim}")
        if any(level not in range(len(self.multipliers)) for level in self.attention_levels):
            raise ValueError(f"attention at levels {self.attention_levels}, but there are {len(self.multipliers)}")
        if any(self.dim * factor % self.dim_head for factor in self.multipliers) or self.dim_head % 2:
            raise ValueError(f"heads of {self.dim_head} features do not fill {self.dim} times {self.multipliers}")
        if not 0 < self.sigma_min < self.sigma_max or self.sigma_data <= 0:
            raise ValueError("sigma_min, sigma_max and sigma_data must be positive and in order")

    @classmethod
    def from_mapping(cls, raw: Mapping[str, Any]) -> "DiffVSConfig":
        lists = {"bands": tuple(tuple(band) for band in raw["bands"])} if "bands" in raw else {}
        tuples = {key: tuple(raw[key]) for key in ("multipliers", "attention_levels") if key in raw}
        return cls(**{**raw, **lists, **tuples})

    @property
    def stft(self) -> StftSpec:
        return StftSpec(self.n_fft, self.hop_length, self.n_fft)

    @property
    def band_count(self) -> int:
        return sum(count for count, _ in self.bands)

    @property
    def values(self) -> int:
        """Real and imaginary parts of all channels in a bin."""
        return 2 * self.channels


@dataclass(frozen=True, slots=True)
class _Attention:
    """What `Transformer` wants to know."""

    dim: int
    heads: int
    dim_head: int
    attn_dropout: float
    ff_dropout: float


def group_norm(dim: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(dim, 32 if dim >= 128 else 8), dim, eps=1e-6)


class NoiseEmbedding(nn.Module):
    """c_noise (B) → (B, E): sines and cosines, then two layers."""

    def __init__(self, dim: int, out: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(dim, out), nn.SiLU(), nn.Linear(out, out), nn.SiLU())
        span = math.log10(LOWEST_FREQUENCY), math.log10(HIGHEST_FREQUENCY)
        self.register_buffer("frequencies", torch.logspace(*span, dim // 2), persistent=False)

    def forward(self, noise_B: Tensor) -> Tensor:
        angles = noise_B[:, None] * self.get_buffer("frequencies")
        return self.layers(torch.cat([angles.sin(), angles.cos()], dim=-1))  # type: ignore[no-any-return]


class DualPath(nn.Module):
    """(B, D, T, K) → the same: a transformer along time in every band, then one along the bands of every frame."""

    def __init__(self, dim: int, config: DiffVSConfig) -> None:
        super().__init__()
        settings = _Attention(dim, dim // config.dim_head, config.dim_head, config.dropout, config.dropout)
        self.over_time = Transformer(settings, 1, Rotary(config.dim_head), mapping=0)
        self.over_bands = Transformer(settings, 1, Rotary(config.dim_head), mapping=0)

    def forward(self, x_BDTK: Tensor) -> Tensor:
        batch, dim, frames, bands = x_BDTK.shape
        x_QTD = x_BDTK.permute(0, 3, 2, 1).reshape(batch * bands, frames, dim)
        x_BKTD = self.over_time(x_QTD, None).reshape(batch, bands, frames, dim)
        x_QKD = x_BKTD.transpose(1, 2).reshape(batch * frames, bands, dim)
        x_BTKD: Tensor = self.over_bands(x_QKD, None).reshape(batch, frames, bands, dim)
        return x_BTKD.permute(0, 3, 1, 2)


class ResidualBlock(nn.Module):
    """DDPM++'s block, (B, D, T, K) → (B, D', T, K'): norm, SiLU, convolution, twice; the embedding scales and shifts.

    `bands`: K' is K ("same"), half of it ("halved", means of two) or twice ("doubled"). T is never touched.
    """

    def __init__(self, dims: tuple[int, int], config: DiffVSConfig, bands: str = "same", attends: bool = False) -> None:
        super().__init__()
        (before, after), self.bands, self.dropout = dims, bands, config.dropout
        self.first_norm, self.second_norm = group_norm(before), group_norm(after)
        self.first = nn.Conv2d(before, after, 3, padding=1)
        self.second = nn.Conv2d(after, after, 3, padding=1)
        self.scale_shift = nn.Linear(4 * config.dim, 2 * after)
        self.skip = nn.Conv2d(before, after, 1) if before != after else nn.Identity()
        self.attention = DualPath(after, config) if attends else None
        nn.init.zeros_(self.second.weight)
        assert self.second.bias is not None
        nn.init.zeros_(self.second.bias)

    def forward(self, x_BDTK: Tensor, noise_BE: Tensor) -> Tensor:
        h = self._resized(F.silu(self.first_norm(x_BDTK)))
        scale, shift = self.scale_shift(noise_BE)[..., None, None].chunk(2, dim=1)
        h = F.silu(self.second_norm(self.first(h)) * (1 + scale) + shift)
        h = self.second(F.dropout(h, self.dropout, self.training))
        out: Tensor = (self.skip(self._resized(x_BDTK)) + h) * SKIP_SCALE
        return out if self.attention is None else self.attention(out)  # its transformers have residuals of their own

    def _resized(self, x_BDTK: Tensor) -> Tensor:
        if self.bands == "halved":
            return F.avg_pool2d(x_BDTK, (1, 2))
        return x_BDTK.repeat_interleave(2, dim=-1) if self.bands == "doubled" else x_BDTK


class DiffVSNetwork(nn.Module):
    """F: scaled noisy target and normalised mixture, both (B, T, F, V), and c_noise (B) → (B, T, F, V).

    The head (O) gives every value a part of the noisy target, a part of the mixture and a rest. Bands alone could not
    tell the bins of their noise apart, which at a low sigma is all that F has to say. An untrained F is 0.
    """

    def __init__(self, config: DiffVSConfig) -> None:
        super().__init__()
        widths = [config.dim * factor for factor in config.multipliers]
        self.embedding = NoiseEmbedding(config.dim, 4 * config.dim)
        self.split = BandSplit(config.bands, 2 * config.values, config.dim)
        self.position = nn.Parameter(torch.randn(config.band_count, config.dim) * 0.1)
        kept = [config.dim]
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        for level, width in enumerate(widths):
            attends = level in config.attention_levels
            if level:
                self.encoder.append(ResidualBlock((widths[level - 1], width), config, "halved"))
                kept.append(width)
            for number in range(config.blocks):
                before = widths[0] if level == 0 and number == 0 else width
                self.encoder.append(ResidualBlock((before, width), config, attends=attends))
                kept.append(width)
        deepest = widths[-1]
        self.middle = nn.ModuleList(
            [ResidualBlock((deepest, deepest), config, attends=True), ResidualBlock((deepest, deepest), config)]
        )
        current = deepest
        for level in reversed(range(len(widths))):
            width = widths[level]
            if level < len(widths) - 1:
                self.decoder.append(ResidualBlock((current, current), config, "doubled"))
            for number in range(config.blocks + 1):
                attends = level in config.attention_levels and number == config.blocks
                self.decoder.append(ResidualBlock((current + kept.pop(), width), config, attends=attends))
                current = width
        self.merge = BandMerge(config.bands, 3 * config.values, config.dim * config.multipliers[0], config.head_hidden)
        for weight in self.merge.weights:
            nn.init.zeros_(weight)

    def forward(self, x_BTFV: Tensor, noise_B: Tensor, mixture_BTFV: Tensor) -> Tensor:
        noise_BE = self.embedding(noise_B)
        h = (self.split(torch.cat([x_BTFV, mixture_BTFV], dim=-1)) + self.position).permute(0, 3, 1, 2)
        kept = [h]
        for block in self.encoder:
            h = block(h, noise_BE)
            kept.append(h)
        for block in self.middle:
            h = block(h, noise_BE)
        for block in self.decoder:
            assert isinstance(block, ResidualBlock)
            h = block(h if block.bands == "doubled" else torch.cat([h, kept.pop()], dim=1), noise_BE)
        merged: Tensor = self.merge(h.permute(0, 2, 3, 1))
        of_x, of_mixture, rest = merged.chunk(3, dim=-1)
        return of_x * x_BTFV + of_mixture * mixture_BTFV + rest
