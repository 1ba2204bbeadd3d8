"""Samplers as pure functions of a denoiser, a start, noise levels and noise.

Each begins at `x_start + sigmas[0] * z` with `x_start` the separator's estimate (zeros for plain generation) and takes
standard normal tensors of `x_start`'s shape from `noise` in the order in which it needs them, the first one to start.
None clamps its result: the published inference clamps it to [-1, 1], and with the diffusion (not the consistency)
refiner also every output of the denoiser; see `clamped`.
"""

import itertools
import math
from collections.abc import Callable, Iterator

from torch import Tensor

from pyserver.diffusion.scalings import per_item

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""`D(x, sigma_B)` -> an estimate of the clean waveform, of x's shape."""

MAX_CHURN_GAMMA = math.sqrt(2) - 1


def clamped(denoise: Denoiser, limit: float = 1.0) -> Denoiser:
    """The same denoiser with its output held within `limit`, as in the published diffusion refiner."""

    def denoise_within_limit(x: Tensor, sigma_B: Tensor) -> Tensor:
        return denoise(x, sigma_B).clamp(-limit, limit)

    return denoise_within_limit


def consistency_multistep(denoise: Denoiser, x_start: Tensor, sigmas: Tensor, noise: Iterator[Tensor]) -> Tensor:
    """Multistep consistency sampling as published for DiCoSe; `sigmas` from `consistency_schedule` (N steps, N + 2).

    It re-noises after all but the last *two* evaluations, so never for N = 2. That is one time less than the paper's
    algorithm (`consistency_multistep_textbook`), and what the published scores were made with.
    """
    return _consistency(denoise, x_start, sigmas, noise, renoise_count=len(sigmas) - 4)


def consistency_multistep_textbook(
    denoise: Denoiser, x_start: Tensor, sigmas: Tensor, noise: Iterator[Tensor]
) -> Tensor:
    """Song et al. 2023, algorithm 1: re-noises after every evaluation but the last. `sigmas` as above."""
    return _consistency(denoise, x_start, sigmas, noise, renoise_count=len(sigmas) - 3)


def _consistency(
    denoise: Denoiser, x_start: Tensor, sigmas: Tensor, noise: Iterator[Tensor], renoise_count: int
) -> Tensor:
    if len(sigmas) < 3:
        raise ValueError("a consistency schedule has at least three entries: a level, sigma_min and 0")
    steps, sigma_min = len(sigmas) - 2, sigmas[-2]
    x = x_start + sigmas[0] * next(noise)
    for i in range(steps):
        x = denoise(x, _per_batch(sigmas[i], x))
        if i < renoise_count:
            x = x + (sigmas[i + 1].square() - sigma_min.square()).sqrt() * next(noise)
    return x


def edm_stochastic(
    denoise: Denoiser,
    x_start: Tensor,
    sigmas: Tensor,
    noise: Iterator[Tensor],
    *,
    corrections: int = 1,
    churn: float = 0.0,
) -> Tensor:
    """Euler steps with churn (Karras et al. 2022, algorithm 2, first order) and MSDM's corrections, as published.

    `sigmas` from `diffusion_schedule`. Every step is made `corrections` times; between them the step is undone by
    adding noise up to its starting level. A churn draw is made even where its factor is 0.
    """
    if corrections < 1:
        raise ValueError(f"a step is made at least once, not {corrections} times")
    gamma = min(churn / (len(sigmas) - 1), MAX_CHURN_GAMMA)
    x = x_start + sigmas[0] * next(noise)
    for sigma, sigma_next in itertools.pairwise(sigmas):
        sigma_hat = sigma * (1 + gamma)
        for correction in range(corrections):
            x = x + (sigma_hat.square() - sigma.square()).sqrt() * next(noise)
            slope = (x - denoise(x, _per_batch(sigma_hat, x))) / sigma_hat
            x = x + (sigma_next - sigma_hat) * slope
            if correction < corrections - 1:
                x = x + (sigma.square() - sigma_next.square()).sqrt() * next(noise)
    return x


def heun(denoise: Denoiser, x_start: Tensor, sigmas: Tensor, noise: Iterator[Tensor], *, churn: float = 0.0) -> Tensor:
    """Second-order steps (Karras et al. 2022, algorithms 1 and 2), Euler into the final 0; `diffusion_schedule`.

    Without churn the only draw is the starting one.
    """
    gamma = min(churn / (len(sigmas) - 1), MAX_CHURN_GAMMA)
    x = x_start + sigmas[0] * next(noise)
    for sigma, sigma_next in itertools.pairwise(sigmas):
        if gamma > 0:
            sigma_hat = sigma * (1 + gamma)
            x = x + (sigma_hat.square() - sigma.square()).sqrt() * next(noise)
            sigma = sigma_hat
        x = heun_step(denoise, x, sigma, sigma_next)
    return x


def heun_step(denoise: Denoiser, x: Tensor, sigma: Tensor, sigma_next: Tensor) -> Tensor:
    """One step of the probability flow from level `sigma` to `sigma_next`, each one for all or one an item, shape (B).

    Euler where all of `sigma_next` is 0.
    """
    sigma_B, next_B = _per_batch(sigma, x), _per_batch(sigma_next, x)
    distance = per_item(next_B - sigma_B, x)
    slope = (x - denoise(x, sigma_B)) / per_item(sigma_B, x)
    x_euler = x + distance * slope
    if not next_B.any():
        return x_euler
    slope_next = (x_euler - denoise(x_euler, next_B)) / per_item(next_B, x)
    return x + distance * (slope + slope_next) / 2


def _per_batch(sigma: Tensor, x: Tensor) -> Tensor:
    return sigma.to(x.real).expand(x.shape[0])  # x may be a complex spectrum, a level never is
