"""`band_split`: Stemline's own small separator and one-pass refiner, for stereo 44.1 kHz on a laptop's CPU.

Axes: B batch, S stems, C channels, L samples, F frequency bins, T frames, K bands, D width, V values in a bin.

The separator looks at the compressed complex spectrogram of the mixture in K bands. Every layer mixes time by a dilated
depth-wise convolution, whose reach is bounded (so margins make windows seamless and look-ahead is a known number), and
frequency by attention across bands. The head gives each stem a share of every bin: shares sum to one over the stems.

The refiner sees all noisy stems, the mixture and the separator's shares and last features at once and refines the stems
in one pass, where the published refiners need S. It corrects the shares, so that before any training, and wherever it
has nothing to say, it gives the separator's stems.

Shares become stems by a multichannel Wiener filter (`spatial.py`), which sharpens them by where each stem stands in
stereo: what a real share of each channel cannot do, and what needs no training.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyserver.diffusion.scalings import ScalingsFunction, edm_scalings, per_item
from pyserver.models.interface import Features, SeparationModel
from pyserver.models.spatial import SpatialConfig, spatial_filter
from pyserver.models.stft import StftSpec, istft, stft


@dataclass(frozen=True, slots=True, kw_only=True)
class BandSplitConfig:
    """`bands` lists (how many, bins in each) from DC upwards and must cover n_fft / 2 + 1 bins.

    What begins with `spatial_` is `SpatialConfig`'s; no rounds leave the filter out.
    """

    stems: int
    channels: int = 2
    n_fft: int = 2048
    hop_length: int = 1024
    bands: tuple[tuple[int, int], ...] = ((16, 4), (16, 8), (8, 16), (8, 32), (4, 64), (1, 193))
    dim: int = 64
    heads: int = 2
    dilations: tuple[int, ...] = (1, 2, 4, 8)
    kernel: int = 7
    head_hidden: int = 64
    refiner_dim: int = 64
    refiner_dilations: tuple[int, ...] = (1, 2, 4, 8)
    refiner_hidden: int = 64
    sigma_data: float = 0.4
    sigma_min: float = 1e-3
    spatial_rounds: int = 0
    spatial_reach: int = 16
    spatial_floor: float = 0.003

    def __post_init__(self) -> None:
        covered = sum(count * width for count, width in self.bands)
        if covered != self.n_fft // 2 + 1:
            raise ValueError(f"bands cover {covered} bins, n_fft {self.n_fft} has {self.n_fft // 2 + 1}")

    @classmethod
    def from_mapping(cls, raw: Mapping[str, Any]) -> "BandSplitConfig":
        lists = {"bands": tuple(tuple(band) for band in raw["bands"])} if "bands" in raw else {}
        tuples = {key: tuple(raw[key]) for key in ("dilations", "refiner_dilations") if key in raw}
        return cls(**{**raw, **lists, **tuples})

    @property
    def spatial(self) -> SpatialConfig | None:
        """None where there is nothing to filter by: no filter, or not two channels."""
        if not self.spatial_rounds or self.channels != 2:
            return None
        return SpatialConfig(reach=self.spatial_reach, floor=self.spatial_floor, rounds=self.spatial_rounds)

    @property
    def stft(self) -> StftSpec:
        return StftSpec(self.n_fft, self.hop_length, self.n_fft)

    @property
    def reach_frames(self) -> int:
        """How many frames on each side a frame of the separator's output depends on."""
        return sum(self.dilations) * (self.kernel // 2)


class BandSplit(nn.Module):
    """(B, T, F, V) → (B, T, K, D): each band of neighbouring bins becomes one vector."""

    def __init__(self, bands: Sequence[tuple[int, int]], values: int, dim: int) -> None:
        super().__init__()
        self.bands, self.values, self.dim = tuple(bands), values, dim
        self.weights = nn.ParameterList(
            nn.Parameter(torch.randn(count, width * values, dim) / math.sqrt(width * values)) for count, width in bands
        )
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(count, 1, dim)) for count, _ in bands)

    def forward(self, x_BTFV: Tensor) -> Tensor:
        batch, frames = x_BTFV.shape[:2]
        parts, low = [], 0
        for (count, width), weight, bias in zip(self.bands, self.weights, self.biases, strict=True):
            group = x_BTFV[:, :, low : low + count * width].reshape(batch * frames, count, width * self.values)
            parts.append(torch.baddbmm(bias, group.transpose(0, 1), weight))
            low += count * width
        return torch.cat(parts).transpose(0, 1).reshape(batch, frames, -1, self.dim)


class BandMerge(nn.Module):
    """(B, T, K, D) → (B, T, F, V): a hidden layer and a linear one for every band."""

    def __init__(self, bands: Sequence[tuple[int, int]], values: int, dim: int, hidden: int) -> None:
        super().__init__()
        self.bands, self.values = tuple(bands), values
        total = sum(count for count, _ in bands)
        self.norm = nn.LayerNorm(dim)
        self.hidden = nn.Parameter(torch.randn(total, dim, hidden) / math.sqrt(dim))
        self.hidden_bias = nn.Parameter(torch.zeros(total, 1, hidden))
        self.weights = nn.ParameterList(
            nn.Parameter(torch.randn(count, hidden, width * values) * 0.3 / math.sqrt(hidden)) for count, width in bands
        )
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(count, 1, width * values)) for count, width in bands)

    def forward(self, x_BTKD: Tensor) -> Tensor:
        batch, frames = x_BTKD.shape[:2]
        h = torch.baddbmm(self.hidden_bias, self.norm(x_BTKD).flatten(0, 1).transpose(0, 1), self.hidden)
        h = F.gelu(h)
        parts, low = [], 0
        for (count, width), weight, bias in zip(self.bands, self.weights, self.biases, strict=True):
            out = torch.baddbmm(bias, h[low : low + count], weight).transpose(0, 1)
            parts.append(out.reshape(batch, frames, count * width, self.values))
            low += count
        return torch.cat(parts, dim=2)


class TimeMix(nn.Module):
    """Gated depth-wise convolution over time, each band on its own."""

    def __init__(self, dim: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.expand = nn.Linear(dim, 2 * dim)
        self.conv = nn.Conv2d(
            dim, dim, (kernel, 1), dilation=(dilation, 1), padding=(dilation * (kernel // 2), 0), groups=dim
        ).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.project = nn.Linear(dim, dim)

    def forward(self, x_BTKD: Tensor) -> Tensor:
        gated = F.glu(self.expand(self.norm(x_BTKD)), dim=-1)
        mixed = self.conv(gated.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        change: Tensor = self.project(F.silu(mixed))
        return x_BTKD + change


class FrequencyMix(nn.Module):
    """Attention across the bands of one frame, then a feed-forward layer."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.project = nn.Linear(dim, dim)
        self.feed = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 3 * dim), nn.GELU(), nn.Linear(3 * dim, dim))

    def forward(self, x_BTKD: Tensor) -> Tensor:
        batch, frames, bands, dim = x_BTKD.shape
        qkv = self.qkv(self.norm(x_BTKD)).reshape(batch * frames, bands, 3, self.heads, dim // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(x_BTKD.shape)
        x_BTKD = x_BTKD + self.project(mixed)
        fed: Tensor = self.feed(x_BTKD)
        return x_BTKD + fed


class Trunk(nn.Module):
    def __init__(self, config: BandSplitConfig, dim: int, dilations: Sequence[int]) -> None:
        super().__init__()
        bands = sum(count for count, _ in config.bands)
        self.position = nn.Parameter(torch.randn(bands, dim) * 0.1)
        self.layers = nn.ModuleList(
            nn.Sequential(TimeMix(dim, config.kernel, dilation), FrequencyMix(dim, config.heads))
            for dilation in dilations
        )

    def forward(self, x_BTKD: Tensor) -> Tensor:
        x_BTKD = x_BTKD + self.position
        for layer in self.layers:
            x_BTKD = layer(x_BTKD)
        return x_BTKD


def compress(x_BQFT: Tensor) -> Tensor:
    """Complex spectra (B, Q, F, T) → (B, T, F, 2Q) real with magnitudes to the power 0.3, so quiet bins are seen."""
    pairs = torch.view_as_real(x_BQFT.transpose(2, 3))
    real, imag = pairs.unbind(-1)
    factor = (real * real + imag * imag + 1e-8).pow(-0.35)
    return (pairs * factor[..., None]).permute(0, 2, 3, 1, 4).flatten(-2)


def gained(x: Tensor, gain: Tensor) -> Tensor:
    """Complex times real, which PyTorch takes for complex times complex."""
    return torch.view_as_complex(torch.view_as_real(x) * gain[..., None])


def frames_first(x_FT: Tensor) -> Tensor:
    """(..., F, T), the same, as an STFT lies in memory: a frame after the other. Sums and products of tensors that lie
    in different ways take several times as long."""
    return x_FT.transpose(-1, -2).contiguous().transpose(-1, -2)


class SeparatorCore(nn.Module):
    """Real in, real out: compressed mixture (B, T, F, 2C) → shares (B, T, F, S, C) and features (B, T, K, D)."""

    def __init__(self, config: BandSplitConfig) -> None:
        super().__init__()
        self.split = BandSplit(config.bands, 2 * config.channels, config.dim)
        self.trunk = Trunk(config, config.dim, config.dilations)
        self.merge = BandMerge(config.bands, config.stems * config.channels, config.dim, config.head_hidden)
        self.stems = config.stems

    def forward(self, mixture_BTFV: Tensor) -> tuple[Tensor, Tensor]:
        features = self.trunk(self.split(mixture_BTFV))
        merged: Tensor = self.merge(features)
        logits = merged.reshape(*merged.shape[:-1], self.stems, -1)
        return logits.softmax(dim=-2), features


KEPT_AT_FIRST = 4.0
"""An untrained refiner keeps sigmoid(-4), 2 %, of the noisy stem: enough for a gradient, too little to be heard."""


class RefinerCore(nn.Module):
    """Real in, real out: how each stem's share of the mixture changes, and how much of the noisy stem is kept.

    Input (B, T, F, 2SC + 2C + SC): compressed noisy stems and mixture, the separator's shares; `noise_B` is c_noise;
    features (B, T, K, D) come from the separator. Two outputs (B, T, F, S, C): change of the share's logarithm, and
    the part of the noisy stem that is kept.
    """

    def __init__(self, config: BandSplitConfig) -> None:
        super().__init__()
        dim, pairs = config.refiner_dim, config.stems * config.channels
        self.shape = (config.stems, config.channels, 2)
        self.split = BandSplit(config.bands, 3 * pairs + 2 * config.channels, dim)
        self.adapter = nn.Sequential(nn.LayerNorm(config.dim), nn.Linear(config.dim, dim))
        self.noise = nn.Sequential(nn.Linear(16, dim), nn.GELU(), nn.Linear(dim, 2 * dim))
        self.trunk = Trunk(config, dim, config.refiner_dilations)
        self.merge = BandMerge(config.bands, 2 * pairs, dim, config.refiner_hidden)
        with torch.no_grad():
            for weight in self.merge.weights:
                weight.mul_(0.05)  # starts as the separator, nearly: not exactly, or no gradient would pass
        self.register_buffer("frequencies", torch.logspace(-1, 1, 8), persistent=False)

    def forward(self, x_BTFV: Tensor, noise_B: Tensor, features_BTKD: Tensor) -> tuple[Tensor, Tensor]:
        angles = noise_B[:, None] * self.get_buffer("frequencies")
        scale, shift = self.noise(torch.cat([angles.sin(), angles.cos()], dim=-1))[:, None, None].chunk(2, dim=-1)
        h = (self.split(x_BTFV) + self.adapter(features_BTKD)) * (1 + scale) + shift
        merged: Tensor = self.merge(self.trunk(h))
        change, kept = merged.reshape(*merged.shape[:-1], *self.shape).unbind(-1)
        return change, (kept - KEPT_AT_FIRST).sigmoid()


class BandSplitModel(SeparationModel):
    """Separator and refiner behind the common interface; features are (mixture, shares, trunk's last layer)."""

    has_refiner = True

    def __init__(self, config: BandSplitConfig) -> None:
        super().__init__()
        self.config = config
        self.stems = config.stems
        self.separator = SeparatorCore(config)
        self.refiner = RefinerCore(config)

    def separate_spectrum(self, mixture_BCFT: Tensor) -> tuple[Tensor, Tensor]:
        """Complex mixture → shares (B, S, C, F, T) that sum to one over the stems, and features (B, T, K, D)."""
        shares, features = self.separator(compress(mixture_BCFT))
        return shares.permute(0, 3, 4, 2, 1), features

    def stems_of(self, shares_BSCFT: Tensor, mixture_BCFT: Tensor) -> Tensor:
        """Spectra (B, S, C, F, T) that sum to the mixture's."""
        spatial = self.config.spatial
        if spatial is None:
            return shares_BSCFT * mixture_BCFT[:, None]
        return spatial_filter(shares_BSCFT, mixture_BCFT, spatial)

    def corrected(self, x_BSCFT: Tensor, noise_B: Tensor, features: Features) -> tuple[Tensor, Tensor]:
        """The separator's shares as the refiner corrects them on seeing the stems x, and how much of x it keeps.

        `noise_B` is c_noise. Both (B, S, C, F, T); the shares sum to one over the stems.
        """
        mixture_BCFT, shares_BSCFT, trunk_BTKD = features
        given_BTFSC = shares_BSCFT.permute(0, 4, 3, 1, 2)
        spectra = compress(x_BSCFT.flatten(1, 2)), compress(mixture_BCFT)
        seen = torch.cat([*spectra, given_BTFSC.flatten(3)], dim=-1)
        change_BTFSC, kept_BTFSC = self.refiner(seen, noise_B, trunk_BTKD)
        shares_BTFSC = (given_BTFSC.clamp_min(1e-6).log() + change_BTFSC).softmax(dim=3)
        return shares_BTFSC.permute(0, 3, 4, 2, 1), kept_BTFSC.permute(0, 3, 4, 2, 1)

    def denoise_spectrum(
        self, x_BSCFT: Tensor, sigma_B: Tensor, features: Features, scalings: ScalingsFunction
    ) -> Tensor:
        """D(x; sigma) on spectra. The network gives the clean stem; F is what the EDM coefficients make of it.

        F = (clean - c_skip·x) / c_out lets shares stay in [0, 1] at every sigma, where a plain F would have to reach
        sigma_data / sigma to silence noise in an empty bin. The chosen coefficients make D of that F: with EDM's own,
        D is the clean stem; with the consistency ones it is x at sigma_min.
        """
        mixture_BCFT = features[0]
        edm = edm_scalings(sigma_B, self.config.sigma_data, self.config.sigma_min)
        chosen = scalings(sigma_B, self.config.sigma_data, self.config.sigma_min)
        shares, kept = self.corrected(x_BSCFT, edm.noise, features)
        # chosen.skip·x + chosen.out·F, where F's clean = kept·x + (1 - kept)·stems, its factors gathered
        part_B = chosen.out / edm.out
        of_clean, of_x = per_item(part_B, kept), per_item(chosen.skip - part_B * edm.skip, kept)
        free = frames_first(of_clean * (1 - kept))
        stems = frames_first(self.stems_of(shares, mixture_BCFT))
        return gained(x_BSCFT, of_x + of_clean - free) + gained(stems, free)

    def separate(self, mixture_BCL: Tensor) -> tuple[Tensor, Features]:
        spectrum = stft(mixture_BCL, self.config.stft)
        shares, features = self.separate_spectrum(spectrum)
        stems = istft(self.stems_of(shares, spectrum), self.config.stft, mixture_BCL.shape[-1])
        return stems, (spectrum, shares, features)

    def denoise(self, x_BSCL: Tensor, sigma_B: Tensor, features: Features, scalings: ScalingsFunction) -> Tensor:
        spectrum = self.denoise_spectrum(stft(x_BSCL, self.config.stft), sigma_B, features, scalings)
        return istft(spectrum, self.config.stft, x_BSCL.shape[-1])


def build(raw: Mapping[str, Any]) -> BandSplitModel:
    return BandSplitModel(BandSplitConfig.from_mapping(raw))
