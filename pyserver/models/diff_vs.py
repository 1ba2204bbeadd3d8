"""`diff_vs`: vocals sampled by diffusion, given the mixture, after Diff-VS (arXiv 2604.01120).

P marks what is published, O what we chose. P: the complex STFT with real and imaginary parts as channels; the waveform
at a peak of 1, an amplitude transform of the STFT, and a normalisation of its bands by their statistics; the mixture
beside the noisy target as input; EDM's framework. O: the transform's form, `beta·|c|^alpha·exp(i·arg c)`; dividing each
band by its RMS over the training set, the mixture's to 1 and the vocals' to sigma_data; what is not vocals is the
mixture less the vocals, so both sum to the mixture.

Diffusion happens on those normalised values: x is (B, T, F, V), sigma in their unit.
Axes: B batch, S stems, C channels, L samples, F bins, T frames, V real and imaginary parts of all channels.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pyserver.diffusion.noise import normal_stream
from pyserver.diffusion.scalings import ScalingsFunction, edm_scalings, precondition
from pyserver.models.diff_vs_network import DiffVSConfig, DiffVSNetwork
from pyserver.models.interface import Features, GenerativeModel
from pyserver.models.stft import istft, stft

STEMS = ("vocals", "other")
QUIETEST_PEAK = 1e-7
SMALLEST_POWER = 1e-30
"""Of a bin whose phase is known: magnitudes below 1e-15 are not told from silence."""


def amplitude_transform(c: Tensor, alpha: float, beta: float) -> Tensor:
    """`beta·|c|^alpha·exp(i·arg c)` of a complex tensor; 0 stays 0."""
    power = c.real.square() + c.imag.square()
    return c * (beta * power.clamp_min(SMALLEST_POWER).pow((alpha - 1) / 2))


def inverse_amplitude_transform(c: Tensor, alpha: float, beta: float) -> Tensor:
    """`(|c| / beta)^(1 / alpha)·exp(i·arg c)`."""
    return c / beta * (c.abs() / beta).pow(1 / alpha - 1)


def real_values(spectrum_BCFT: Tensor) -> Tensor:
    """Complex (B, C, F, T) → real (B, T, F, V)."""
    return torch.view_as_real(spectrum_BCFT).permute(0, 3, 2, 1, 4).flatten(3)


def complex_spectrum(x_BTFV: Tensor) -> Tensor:
    """The inverse of `real_values`."""
    return torch.view_as_complex(x_BTFV.reshape(*x_BTFV.shape[:3], -1, 2).contiguous()).permute(0, 3, 2, 1)


class BandStatistics(nn.Module):
    """RMS of every band's transformed values over the training set, per bin: buffers, so that weights carry them."""

    def __init__(self, config: DiffVSConfig) -> None:
        super().__init__()
        widths = torch.tensor([width for count, width in config.bands for _ in range(count)])
        self.register_buffer("widths", widths, persistent=False)
        for name in ("mixture_rms_K", "vocals_rms_K"):
            self.register_buffer(name, torch.ones(config.band_count))

    def per_bin(self, name: str) -> Tensor:
        """(F, 1), to divide (B, T, F, V) by."""
        return self.get_buffer(name).repeat_interleave(self.get_buffer("widths"))[:, None]

    def bin_weights(self) -> Tensor:
        """(F, 1), with a mean of 1: every band has the same share, whatever its width."""
        widths = self.get_buffer("widths")
        of_a_bin = (1 / widths).repeat_interleave(widths)[:, None]
        return of_a_bin / of_a_bin.mean()

    def measure(self, pairs: Iterable[tuple[Tensor, Tensor]]) -> None:
        """From transformed values (B, T, F, V) of mixtures and of their vocals. Bands that never sound count as 1."""
        widths = self.get_buffer("widths").tolist()
        total, values = torch.zeros(2, len(widths), dtype=torch.float64), 0
        for pair in pairs:
            for row, x_BTFV in zip(total, pair, strict=True):
                power_F = x_BTFV.double().square().sum((0, 1, 3)).cpu()
                row += torch.stack([band.mean() for band in torch.split(power_F, widths)])
            values += pair[0].shape[0] * pair[0].shape[1] * pair[0].shape[3]
        rms = (total / max(values, 1)).sqrt()
        rms = torch.where(rms > 1e-6, rms, torch.ones_like(rms))
        for name, found in zip(("mixture_rms_K", "vocals_rms_K"), rms, strict=True):
            self.get_buffer(name).copy_(found)


class Generator(nn.Module):
    """All that is trained or measured: the network and the bands' statistics."""

    def __init__(self, config: DiffVSConfig) -> None:
        super().__init__()
        self.network = DiffVSNetwork(config)
        self.statistics = BandStatistics(config)


class DiffVSModel(GenerativeModel):
    """Vocals and the rest, of any length; features are (normalised mixture, mixture at peak 1, peak)."""

    has_refiner = True
    stems = len(STEMS)

    def __init__(self, config: DiffVSConfig) -> None:
        super().__init__()
        self.config = config
        self.generator = Generator(config)

    def transformed(self, audio_BCL: Tensor) -> Tensor:
        """Waveforms → transformed values (B, T, F, V), not yet normalised by band."""
        spectrum = stft(audio_BCL, self.config.stft)
        return real_values(amplitude_transform(spectrum, self.config.alpha, self.config.beta))

    def normalised_mixture(self, mixture_BCL: Tensor) -> Tensor:
        """At peak 1 → (B, T, F, V) with an RMS of 1 in every band over the training set."""
        return self.transformed(mixture_BCL) / self.generator.statistics.per_bin("mixture_rms_K")

    def encode(self, vocals_BCL: Tensor) -> Tensor:
        """At the mixture's peak of 1 → x (B, T, F, V), with an RMS of sigma_data over the training set."""
        scale = self.config.sigma_data / self.generator.statistics.per_bin("vocals_rms_K")
        return self.transformed(vocals_BCL) * scale

    def decode(self, x_BTFV: Tensor, num_samples: int) -> Tensor:
        """The inverse of `encode`, (B, C, L). What is no waveform's spectrum becomes that of the nearest waveform."""
        transformed = x_BTFV * (self.generator.statistics.per_bin("vocals_rms_K") / self.config.sigma_data)
        spectrum = inverse_amplitude_transform(complex_spectrum(transformed), self.config.alpha, self.config.beta)
        return istft(spectrum, self.config.stft, num_samples)

    def denoise(self, x_BTFV: Tensor, sigma_B: Tensor, features: Features, scalings: ScalingsFunction) -> Tensor:
        """`D(x; sigma)` in the normalised domain; only the first of the features counts."""

        def network(x: Tensor, noise_B: Tensor) -> Tensor:
            return self.generator.network(x, noise_B, features[0])  # type: ignore[no-any-return]

        coefficients = scalings(sigma_B, self.config.sigma_data, self.config.sigma_min)
        return precondition(network, x_BTFV, coefficients)

    def noise_shape(self, num_samples: int) -> tuple[int, ...]:
        return self.config.stft.frames(num_samples), self.config.n_fft // 2 + 1, self.config.values

    def begin(self, mixture_BCL: Tensor) -> tuple[Tensor, Features]:
        peak_B11 = mixture_BCL.abs().amax((1, 2), keepdim=True).clamp_min(QUIETEST_PEAK)
        at_peak = mixture_BCL / peak_B11
        condition = self.normalised_mixture(at_peak)
        return torch.zeros_like(condition), (condition, at_peak, peak_B11)

    def finish(self, x: Tensor, features: Features) -> Tensor:
        _, at_peak, peak_B11 = features
        vocals = self.decode(x, at_peak.shape[-1])
        return torch.stack([vocals, at_peak - vocals], dim=1) * peak_B11[:, None]

    def separate(self, mixture_BCL: Tensor) -> tuple[Tensor, Features]:
        """One evaluation at sigma_max, from the same noise in every window: near the mean of what could be there."""
        zeros, features = self.begin(mixture_BCL)
        draw = next(normal_stream(0, 0, zeros.shape[1:])).to(zeros)
        sigma_B = zeros.new_full((len(zeros),), self.config.sigma_max)
        estimate = self.denoise(zeros + self.config.sigma_max * draw, sigma_B, features, edm_scalings)
        return self.finish(estimate, features), features


def build(raw: Mapping[str, Any]) -> DiffVSModel:
    return DiffVSModel(DiffVSConfig.from_mapping(raw))
