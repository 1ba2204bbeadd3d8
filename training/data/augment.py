"""Augmentation of stems as spectra, on the training device. Mixtures are summed afterwards, so the sum stays exact.

Axes: B batch, S stems, C channels, F frequency bins, T frames. A time-invariant filter is a gain per bin here, so gain,
pan, EQ and low-pass together cost one multiplication.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentConfig:
    gain_db: float = 6.0
    pan_db: float = 4.0
    eq_chance: float = 0.6
    eq_db: float = 5.0
    low_pass_chance: float = 0.1
    low_pass_bins: tuple[int, int] = (380, 800)
    drop_chance: float = 0.08
    swap_chance: float = 0.5


def random_eq_db(shape: tuple[int, ...], bins: int, peak_db: float, generator: torch.Generator) -> Tensor:
    """(*shape, bins): a few slow waves over log-frequency, as rooms, cabinets and tone controls make them."""
    octaves = torch.log2(torch.arange(bins, dtype=torch.float32) + 4)
    octaves = (octaves - octaves[0]) / (octaves[-1] - octaves[0])
    waves = torch.arange(1, 7, dtype=torch.float32)
    phase = torch.rand((*shape, 6, 1), generator=generator) * 2 * math.pi
    height = torch.randn((*shape, 6, 1), generator=generator) / waves[:, None].sqrt()
    return (height * torch.cos(math.pi * waves[:, None] * octaves + phase)).sum(-2) * peak_db / 2


def augment(stems_BSCFT: Tensor, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    batch, stems, channels, bins, _ = stems_BSCFT.shape

    def chance(probability: float, *shape: int) -> Tensor:
        return (torch.rand(shape, generator=generator) < probability).float()

    def uniform(scale: float, *shape: int) -> Tensor:
        return (torch.rand(shape, generator=generator) * 2 - 1) * scale

    db = uniform(config.gain_db, batch, stems, 1, 1) + uniform(config.pan_db, batch, stems, channels, 1)
    eq = random_eq_db((batch, stems, 1), bins, config.eq_db, generator)
    db = db + eq * chance(config.eq_chance, batch, stems, 1, 1)
    gain = torch.pow(10.0, db / 20) * (1 - chance(config.drop_chance, batch, stems, 1, 1))
    low, high = config.low_pass_bins
    edge = torch.randint(low, high, (batch, 1, 1, 1), generator=generator)
    shut = chance(config.low_pass_chance, batch, 1, 1, 1) * (torch.arange(bins) > edge)
    gain = (gain * (1 - shut)).to(stems_BSCFT.device)
    swap = chance(config.swap_chance, batch, stems, 1, 1, 1).to(stems_BSCFT.device).bool()
    return torch.where(swap, stems_BSCFT.flip(2), stems_BSCFT) * gain[..., None]


def normalise(stems_BSCFT: Tensor, n_fft: int) -> Tensor:
    """The same stems with their sum at a waveform RMS of 1 in each item; a silent item stays silent.

    A Hann-windowed bin of white noise with variance v has the mean power 3/8·n_fft·v.
    """
    power = stems_BSCFT.sum(1).abs().square().mean((1, 2, 3)) / (0.375 * n_fft)
    return stems_BSCFT / power.clamp_min(1e-10).sqrt()[:, None, None, None, None]
