"""What DiCoSe's three stages minimise (arXiv 2412.06965), as published: separator, diffusion and consistency refiner.

Three layers. Errors compare waveforms, one figure an item. Losses of given noise are pure functions of denoisers.
Objectives draw the noise and are what a training step calls; `dicose_stages` calls them.
Axes: B batch, S stems, C channels, L samples.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

import torch
from torch import Tensor, nn

from pyserver.diffusion.samplers import Denoiser, clamped, heun_step
from pyserver.diffusion.scalings import ScalingsFunction, consistency_scalings, edm_loss_weight, edm_scalings, per_item
from pyserver.diffusion.schedules import distillation_grid
from pyserver.models.stft import StftSpec, stft

WaveformError = Callable[[Tensor, Tensor], Tensor]
"""(estimate, target), both (B, ..., L) -> one error an item, (B)."""


def squared_error(estimate: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of every item, (B)."""
    return (estimate - target).square().flatten(1).mean(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class MultiResolutionConfig:
    """Spectra of `l1_and_spectral_error`: Hann windows of these sizes, n_fft = max(window, `min_n_fft`)."""

    window_samples: tuple[int, ...] = (4096, 2048, 1024, 512, 256)
    hop_samples: int = 147
    min_n_fft: int = 2048
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not self.window_samples or min(*self.window_samples, self.hop_samples, self.min_n_fft) < 1:
            raise ValueError("windows, hop and n_fft must be positive, and there must be a window")


def l1_and_spectral_error(estimate: Tensor, target: Tensor, config: MultiResolutionConfig) -> Tensor:
    """L1 of the waveforms plus that of their complex spectra, summed over the resolutions: BS-RoFormer's loss, (B)."""
    error = estimate - target  # the STFT is linear: one of the difference instead of two
    spectral = error.new_zeros(len(error))
    for window in config.window_samples:
        spec = StftSpec(max(window, config.min_n_fft), config.hop_samples, window)
        spectral = spectral + stft(error, spec).abs().flatten(1).mean(1)
    return error.abs().flatten(1).mean(1) + config.weight * spectral


class ErrorKind(StrEnum):
    SQUARED = "squared"
    L1_AND_SPECTRAL = "l1_and_spectral"

    def function(self, config: MultiResolutionConfig | None = None) -> WaveformError:
        if self is ErrorKind.SQUARED:
            return squared_error
        return partial(l1_and_spectral_error, config=config or MultiResolutionConfig())


# Losses of given noise


@dataclass(frozen=True, slots=True)
class Noising:
    """Where noise is added, how much, and the standard normal noise itself: `x = start + sigma·noise`."""

    start: Tensor
    sigma_B: Tensor
    noise: Tensor

    @property
    def noisy(self) -> Tensor:
        return self.start + per_item(self.sigma_B, self.noise) * self.noise


def score_matching_error(
    denoise: Denoiser, noising: Noising, clean: Tensor, sigma_data: float, error: WaveformError
) -> Tensor:
    """lambda(sigma)·error(D(x; sigma), clean), (B): denoising score matching (eq. 3). `denoise` has EDM scalings."""
    denoised = denoise(noising.noisy, noising.sigma_B)
    return edm_loss_weight(noising.sigma_B, sigma_data) * error(denoised, clean)


@dataclass(frozen=True, slots=True)
class Distilled:
    """Student and target with consistency scalings, the teacher with EDM scalings; none of them clamps."""

    student: Denoiser
    target: Denoiser
    teacher: Denoiser


def teacher_walk(teacher: Denoiser, x: Tensor, grid: Tensor, index_B: Tensor, heun_steps: int) -> Tensor:
    """`heun_steps` steps of the teacher's probability flow along the grid, every item from its own point (eq. 6)."""
    for offset in range(heun_steps):
        x = heun_step(teacher, x, grid[index_B + offset], grid[index_B + offset + 1])
    return x


def consistency_error(
    networks: Distilled, noising: Noising, grid: Tensor, index_B: Tensor, heun_steps: int, error: WaveformError
) -> Tensor:
    """error(g(x_t, t), g⁻(x_u, u)), (B), with u the level that the teacher walks to from t (eqs. 5 and 6).

    `noising.sigma_B` is `grid[index_B]`. Gradients reach the student only.
    """
    with torch.no_grad():
        walked = teacher_walk(networks.teacher, noising.noisy, grid, index_B, heun_steps)
        goal = networks.target(walked, grid[index_B + heun_steps])
    return error(networks.student(noising.noisy, noising.sigma_B), goal)


def total_loss(consistency_B: Tensor, score_matching_B: Tensor, score_matching_weight: float) -> Tensor:
    """L_CD + weight·L_DSM (eq. 7), a scalar."""
    return consistency_B.mean() + score_matching_weight * score_matching_B.mean()


# Draws


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseConfig:
    """How noise levels are drawn. `uniform_share`: how much of the ramp the uniform half of the DSM levels covers."""

    sigma_log_mean: float = -3.0
    sigma_log_std: float = 1.0
    sigma_max: float = 10.0
    rho: float = 9.0
    grid_points: int = 18
    uniform_share: float = 0.7

    def __post_init__(self) -> None:
        if self.grid_points < 2 or not 0.0 <= self.uniform_share <= 1.0:
            raise ValueError("distillation needs two levels or more, and a share of the ramp is within 0 and 1")


def lognormal_sigmas(normal_B: Tensor, config: NoiseConfig) -> Tensor:
    """`ln sigma ~ N(mean, std²)` out of standard normal values."""
    return (config.sigma_log_mean + config.sigma_log_std * normal_B).exp()


def ramp_sigmas(uniform_B: Tensor, sigma_min: float, config: NoiseConfig) -> Tensor:
    """Uniform on the first `uniform_share` of the Karras ramp (eq. 11) out of uniform values in [0, 1]."""
    high, low = config.sigma_max ** (1 / config.rho), sigma_min ** (1 / config.rho)
    return torch.pow(high + config.uniform_share * uniform_B * (low - high), config.rho)


def draw_distillation_sigmas(items: int, sigma_min: float, config: NoiseConfig, generator: torch.Generator) -> Tensor:
    """Levels of the DSM term, (B): half of the batch (rounded down) log-normal, the other half along the ramp."""
    half = items // 2
    log_normal = lognormal_sigmas(torch.randn(half, generator=generator), config)
    return torch.cat([log_normal, ramp_sigmas(torch.rand(items - half, generator=generator), sigma_min, config)])


def heun_step_chances(grid_points: int) -> Tensor:
    """Chance of 1, 2, ... `grid_points - 1` Heun steps: proportional to their number, float64."""
    steps = torch.arange(1, grid_points, dtype=torch.float64)
    return steps / steps.sum()


# Objectives


Conditioned = Callable[[nn.Module, ScalingsFunction], Denoiser]
"""Makes a refiner's denoiser for one batch, its stems and the separator's features already told."""


@dataclass(frozen=True, slots=True)
class RefinerExample:
    """One batch for the refiner: `start` is the clean stem or the separator's estimate of it (eq. 2)."""

    clean: Tensor
    start: Tensor
    denoiser: Conditioned
    sigma_data: float
    sigma_min: float

    def noising(self, sigma_B: Tensor, generator: torch.Generator) -> Noising:
        noise = torch.randn(self.start.shape, generator=generator)
        return Noising(self.start, sigma_B.to(self.start), noise.to(self.start))


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffusionObjective:
    error: WaveformError = squared_error
    noise: NoiseConfig = NoiseConfig()

    def __call__(self, refiner: nn.Module, example: RefinerExample, generator: torch.Generator) -> Tensor:
        """Stage 2 (eqs. 2 and 3); the denoiser clamps to [-1, 1], as published."""
        sigma = lognormal_sigmas(torch.randn(len(example.clean), generator=generator), self.noise)
        noising = example.noising(sigma, generator)
        denoise = clamped(example.denoiser(refiner, edm_scalings))
        return score_matching_error(denoise, noising, example.clean, example.sigma_data, self.error).mean()


@dataclass(frozen=True, slots=True, kw_only=True)
class Refiners:
    """The network that is trained, its moving average and the frozen diffusion refiner."""

    student: nn.Module
    target: nn.Module
    teacher: nn.Module


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsistencyObjective:
    """`score_matching_weight` is 1.0 in the published configurations, 0.7 in the paper."""

    error: WaveformError = squared_error
    noise: NoiseConfig = NoiseConfig()
    score_matching_weight: float = 1.0

    def __call__(self, refiners: Refiners, example: RefinerExample, generator: torch.Generator) -> Tensor:
        """Stage 3 (eqs. 5 to 7): consistency distillation and score matching of the student, which is not clamped."""
        config, items = self.noise, len(example.clean)
        grid = distillation_grid(config.grid_points, example.sigma_min, config.sigma_max, config.rho)
        grid = grid.to(example.start)
        heun_steps = 1 + int(torch.multinomial(heun_step_chances(config.grid_points), 1, generator=generator))
        index_B = torch.randint(0, config.grid_points - heun_steps, (items,), generator=generator).to(grid.device)
        networks = Distilled(
            student=example.denoiser(refiners.student, consistency_scalings),
            target=example.denoiser(refiners.target, consistency_scalings),
            teacher=example.denoiser(refiners.teacher, edm_scalings),
        )
        noising = example.noising(grid[index_B], generator)
        matching = consistency_error(networks, noising, grid, index_B, heun_steps, self.error)
        sigma = draw_distillation_sigmas(items, example.sigma_min, config, generator)
        denoise = example.denoiser(refiners.student, edm_scalings)
        clean, noised = example.clean, example.noising(sigma, generator)
        score = score_matching_error(denoise, noised, clean, example.sigma_data, self.error)
        return total_loss(matching, score, self.score_matching_weight)
