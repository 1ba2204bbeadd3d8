"""What the stages of training minimise, as functions of a model and a batch of clean stems' spectra.

Axes: B batch, S stems, C channels, F bins, T frames. Losses are taken on spectra: by Parseval's theorem that is the
waveform's squared error, without an inverse STFT in every step.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from pyserver.diffusion.samplers import heun_step
from pyserver.diffusion.scalings import consistency_scalings, edm_scalings, per_item
from pyserver.models.band_split import BandSplitModel
from pyserver.models.interface import Features
from pyserver.models.stft import StftSpec, istft, stft


@dataclass(frozen=True, slots=True, kw_only=True)
class SnrLossConfig:
    """`floor` is the error, relative to the mixture, below which an improvement no longer counts much."""

    floor: float = 3e-3
    silent_below: float = 1e-3
    region_edges: tuple[int, ...] = (0, 12, 48, 140, 372, 1025)
    region_weight: float = 0.3


def _power(x: Tensor) -> Tensor:
    return x.real.square() + x.imag.square()


def separator_loss(shares_BSCFT: Tensor, stems_BSCFT: Tensor, config: SnrLossConfig) -> Tensor:
    """Mean over stems of 10·log10(error / target), over the whole band and over a few regions of it.

    A decibel counts the same in a loud stem and in a quiet one, as in SI-SDR; a stem that does not sound in the crop
    has no ratio to improve and is charged its share of the mixture's power instead.
    """
    mixture = stems_BSCFT.sum(1, keepdim=True)
    total, target = _power(mixture), _power(stems_BSCFT)
    cross = mixture.real * stems_BSCFT.real + mixture.imag * stems_BSCFT.imag
    error = shares_BSCFT * (shares_BSCFT * total - 2 * cross) + target
    return _ratios(_by_bin(error), _by_bin(target), _by_bin(total), config)


def stems_loss(estimate_BSCFT: Tensor, stems_BSCFT: Tensor, config: SnrLossConfig) -> Tensor:
    """`separator_loss` of stems that are no shares of the mixture."""
    error, total = _power(estimate_BSCFT - stems_BSCFT), _power(stems_BSCFT.sum(1, keepdim=True))
    return _ratios(_by_bin(error), _by_bin(_power(stems_BSCFT)), _by_bin(total), config)


def _ratios(error_BSF: Tensor, target_BSF: Tensor, total_B1F: Tensor, config: SnrLossConfig) -> Tensor:
    loss = _log_ratio(error_BSF.sum(-1), target_BSF.sum(-1), total_B1F.sum(-1), config)
    regional = error_BSF.new_zeros(())
    regions = list(zip(config.region_edges[:-1], config.region_edges[1:], strict=True))
    for low, high in regions:
        part = (error_BSF[..., low:high].sum(-1), target_BSF[..., low:high].sum(-1), total_B1F[..., low:high].sum(-1))
        regional = regional + _log_ratio(*part, config)
    return loss + config.region_weight * regional / len(regions)


def _by_bin(x_BSCFT: Tensor) -> Tensor:
    """(B, S, F) sums. One axis after the other: both at once take PyTorch many times as long on a CPU."""
    return x_BSCFT.sum(-1).sum(2)


def _log_ratio(error_BS: Tensor, target_BS: Tensor, total_BS: Tensor, config: SnrLossConfig) -> Tensor:
    floor = config.floor * total_BS + 1e-6
    active = target_BS > config.silent_below * total_BS + 1e-6
    ratio = 10 * torch.log10((error_BS.clamp_min(0) + floor) / (target_BS + floor))
    return torch.where(active, ratio, error_BS / (total_BS + 1e-6) * 10).mean()


def joint_loss(model: BandSplitModel, stems_BSCFT: Tensor, config: SnrLossConfig, separator_weight: float) -> Tensor:
    """Separator and refiner at once, without noise: `stems_loss` of the separator's stems and of the corrected ones.

    The separator's trunk learns from both, as that of a network with a second head half-way; its head only from its
    own loss.
    """
    mixture = stems_BSCFT.sum(1)
    shares, trunk = model.separate_spectrum(mixture)
    separated = model.stems_of(shares, mixture)
    sigma = torch.full((len(mixture),), model.config.sigma_min, device=mixture.device)
    noise = edm_scalings(sigma, model.config.sigma_data, model.config.sigma_min).noise
    corrected, _ = model.corrected(separated.detach(), noise, (mixture, shares.detach(), trunk))
    own = stems_loss(separated, stems_BSCFT, config)
    return stems_loss(model.stems_of(corrected, mixture), stems_BSCFT, config) + separator_weight * own


@dataclass(frozen=True, slots=True, kw_only=True)
class RefinerLossConfig:
    """`clean_chance` is the paper's Bernoulli p (eq. 2): how often the noisy input starts from the clean stem. With
    0.25, our small refiner kept noise that it was not asked to keep when it started from the separator.

    `error_floor` is the mean squared error, where the mixture's power is 1, below which a stem is as good as right, and
    `silent_below` the power below which it does not sound.
    """

    clean_chance: float = 0.0
    error_floor: float = 1e-3
    silent_below: float = 1e-3
    sigma_log_mean: float = -3.0
    sigma_log_std: float = 1.0
    sigma_max: float = 1.0
    rho: float = 9.0
    grid_points: int = 10
    dsm_weight: float = 0.7


@dataclass(frozen=True, slots=True)
class RefinerBatch:
    """What both refiner stages start from: clean spectra, where noise is added, how far the separator is from the clean
    ones (B, S), and its features."""

    clean: Tensor
    start: Tensor
    separator_error: Tensor
    features: Features


def refiner_batch(
    model: BandSplitModel, stems_BSCFT: Tensor, length: int, config: RefinerLossConfig, generator: torch.Generator
) -> RefinerBatch:
    mixture = stems_BSCFT.sum(1)
    with torch.no_grad():
        shares, trunk = model.separate_spectrum(mixture)
        # a filtered spectrum is no waveform's spectrum; the refiner meets the waveform's when it is used
        separated = stft(istft(model.stems_of(shares, mixture), model.config.stft, length), model.config.stft)
    clean = torch.rand(len(stems_BSCFT), generator=generator) < config.clean_chance
    start = torch.where(clean.to(stems_BSCFT.device)[:, None, None, None, None], stems_BSCFT, separated)
    error_BS = stem_error(separated, stems_BSCFT, model.config.n_fft)
    return RefinerBatch(stems_BSCFT, start, error_BS, (mixture, shares, trunk))


def noise_spectrum(like_BSCFT: Tensor, spec: StftSpec, length: int, generator: torch.Generator) -> Tensor:
    """Spectrum of white noise of unit variance."""
    return stft(torch.randn((*like_BSCFT.shape[:3], length), generator=generator).to(like_BSCFT.device), spec)


def stem_error(estimate: Tensor, target: Tensor, n_fft: int) -> Tensor:
    """(B, S): mean squared error in units of the waveform."""
    return _power(estimate - target).mean((2, 3, 4)) / (0.375 * n_fft)


def diffusion_loss(
    model: BandSplitModel, batch: RefinerBatch, length: int, config: RefinerLossConfig, generator: torch.Generator
) -> Tensor:
    """Denoising from separated or clean stems (paper eqs. 2 and 3), as ln of the squared error over the separator's.

    In place of lambda(sigma): what is to be mended does not shrink with sigma, so lambda would let the smallest sigmas,
    the worst stems and the silent ones drown out all others. The logarithm weighs each stem by the inverse of its own
    error, as Karras et al. 2024 (eq. 21) do by noise level, and counts as SI-SDR does. A stem that does not sound has
    no ratio: it is charged the power that it gets, or silencing all that are quiet would be worth most.
    """
    spec = model.config.stft
    sigma = (config.sigma_log_mean + config.sigma_log_std * torch.randn(len(batch.clean), generator=generator)).exp()
    sigma = sigma.to(batch.clean.device)
    noisy = batch.start + per_item(sigma, batch.start) * noise_spectrum(batch.start, spec, length, generator)
    denoised = model.denoise_spectrum(noisy, sigma, batch.features, edm_scalings)
    return _log_error(denoised, batch, spec.n_fft, config)


def control_loss(model: BandSplitModel, batch: RefinerBatch, config: RefinerLossConfig) -> Tensor:
    """The control `Det x2`: the refiner's network corrects the separator's stems, and there is no noise at all.

    At sigma_min, which the network is told as ever; the loss is `diffusion_loss`'s.
    """
    sigma = torch.full((len(batch.clean),), model.config.sigma_min, device=batch.clean.device)
    corrected = model.denoise_spectrum(batch.start, sigma, batch.features, edm_scalings)
    return _log_error(corrected, batch, model.config.n_fft, config)


def _log_error(estimate: Tensor, batch: RefinerBatch, n_fft: int, config: RefinerLossConfig) -> Tensor:
    error_BS = stem_error(estimate, batch.clean, n_fft)
    sounds = stem_error(torch.zeros_like(batch.clean), batch.clean, n_fft) > config.silent_below
    ratio = (error_BS + config.error_floor) / (batch.separator_error + config.error_floor)
    return torch.where(sounds, ratio.log(), error_BS - batch.separator_error).mean()


MEAN_HEUN_STEPS = 2


def consistency_loss(
    student: BandSplitModel,
    target: BandSplitModel,
    teacher: BandSplitModel,
    batch: RefinerBatch,
    grid: Tensor,
    length: int,
    config: RefinerLossConfig,
    generator: torch.Generator,
) -> Tensor:
    """Consistency distillation (paper eqs. 5-7) with one to three Heun steps of the teacher, plus the DSM term."""
    spec, items = student.config.stft, len(batch.clean)
    jump = int(torch.randint(1, 2 * MEAN_HEUN_STEPS, (), generator=generator))
    index = torch.randint(0, len(grid) - jump, (items,), generator=generator).to(grid.device)
    noisy = batch.start + per_item(grid[index], batch.start) * noise_spectrum(batch.start, spec, length, generator)
    with torch.no_grad():
        earlier = noisy
        for offset in range(jump):
            earlier = heun_step(
                lambda x, sigma: teacher.denoise_spectrum(x, sigma, batch.features, edm_scalings),
                earlier,
                grid[index + offset],
                grid[index + offset + 1],
            )
        goal = target.denoise_spectrum(earlier, grid[index + jump], batch.features, consistency_scalings)
    estimate = student.denoise_spectrum(noisy, grid[index], batch.features, consistency_scalings)
    matching = (stem_error(estimate, goal, spec.n_fft) / (batch.separator_error + config.error_floor)).mean()
    return matching + config.dsm_weight * diffusion_loss(student, batch, length, config, generator)
