"""Noise levels to visit, largest first (Karras et al. 2022, eq. 5; DiCoSe, eq. 11). In the unit of the waveform."""

import torch
from torch import Tensor


def karras_ramp(num_points: int, sigma_min: float, sigma_max: float, rho: float) -> Tensor:
    """`num_points` levels from `sigma_max` down to `sigma_min`, float32, even in `sigma ** (1 / rho)`.

    One point is `sigma_max`. The arithmetic is float32, as published.
    """
    if num_points < 1:
        raise ValueError(f"a schedule needs at least one point, not {num_points}")
    if not 0.0 < sigma_min <= sigma_max:
        raise ValueError(f"sigma_min {sigma_min} and sigma_max {sigma_max} must be positive and in this order")
    if num_points == 1:
        return torch.tensor([sigma_max], dtype=torch.float32)
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    fraction = torch.arange(num_points, dtype=torch.float32) / (num_points - 1)
    return torch.pow(high + fraction * (low - high), rho)


def diffusion_schedule(steps: int, sigma_min: float, sigma_max: float, rho: float) -> Tensor:
    """`steps` levels and a final 0, for the stochastic and the Heun sampler: `steps + 1` entries."""
    return _end_with_zero(karras_ramp(steps, sigma_min, sigma_max, rho))


heun_schedule = diffusion_schedule


def consistency_schedule(steps: int, sigma_min: float, sigma_max: float, rho: float) -> Tensor:
    """`steps + 1` levels that end at `sigma_min`, and a final 0; multistep sampling visits the first `steps`."""
    return _end_with_zero(karras_ramp(steps + 1, sigma_min, sigma_max, rho))


def distillation_grid(num_points: int, sigma_min: float, sigma_max: float, rho: float) -> Tensor:
    """The grid on which the teacher's steps are distilled: no final 0."""
    return karras_ramp(num_points, sigma_min, sigma_max, rho)


def _end_with_zero(sigmas: Tensor) -> Tensor:
    return torch.cat([sigmas, sigmas.new_zeros(1)])
