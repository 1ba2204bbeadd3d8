"""Samplers over several sources at once: generation, imputation and separation with one score network (MSDM).

All walk down the same way: Euler steps with churn (Karras et al. 2022, algorithm 2) made `corrections` times each
(Song et al. 2021), by noise levels from `diffusion_schedule`. Standard normal tensors of the sources' shape are taken
from `noise` in the order in which they are needed, the first one to start, and drawn even where their factor is 0: so
a recorded run can be replayed. One network evaluation a correction; a caller that wants to see progress or to stop
wraps the denoiser. None clamps or projects its result.

Axes: B batch, S sources, any others, L samples.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from pyserver.diffusion.posteriors import Slope, prior
from pyserver.diffusion.samplers import MAX_CHURN_GAMMA, Denoiser

Hold = Callable[[Tensor], Tensor]


def _let_go(x: Tensor) -> Tensor:
    return x


@dataclass(frozen=True, slots=True, kw_only=True)
class Stepping:
    """`churn` is S_churn: how much noise all steps together add; each adds at most sqrt(2) - 1 of its level."""

    corrections: int = 1
    churn: float = 0.0

    def __post_init__(self) -> None:
        if self.corrections < 1:
            raise ValueError(f"a step is made at least once, not {self.corrections} times")
        if self.churn < 0:
            raise ValueError(f"churn adds noise, so {self.churn} is no amount of it")

    def gamma(self, steps: int) -> float:
        """By which share the level is raised before a step."""
        return min(self.churn / steps, MAX_CHURN_GAMMA)

    @property
    def draws(self) -> int:
        """How many draws of noise a step of `impute` takes."""
        return 2 * self.corrections


@dataclass(frozen=True, slots=True)
class Known:
    """What of the sources is given: `sources` where `mask` is 1, nothing where it is 0.

    Both are broadcastable to (B, S, ..., L): a mask of shape (S, 1) gives whole stems, (1, L) a region in time, such as
    the overlap by which a long piece goes on, and their union both.
    """

    sources: Tensor
    mask: Tensor


def error_gain(stiffness: float, sigmas: Tensor, stepping: Stepping) -> float:
    """The largest factor by which a step of separation multiplies an error: above 1, errors grow from step to step.

    An Euler step from sigma-hat to sigma' leaves `1 - stiffness·(1 - sigma' / sigma-hat)` of what all free sources have
    in common, wherever there is little but noise; `posteriors` gives the stiffness. So few steps, much churn and small
    coefficients diverge. The last step, to 0, is left out: it is made once, and what it starts from is small.
    """
    kept = sigmas[1:-1] / (sigmas[:-2] * (1 + stepping.gamma(len(sigmas) - 1)))
    return float((1 - stiffness * (1 - kept)).abs().max()) if len(kept) else 0.0


def separate(slope: Slope, sigmas: Tensor, noise: Iterator[Tensor], stepping: Stepping) -> Tensor:
    """Sources of the mixture that `slope` was made for (`posteriors.dirac`, `posteriors.gaussian`)."""
    walk = _Walk(slope, noise, stepping.corrections, stepping.gamma(len(sigmas) - 1))
    x = begun(sigmas, noise)
    for sigma, sigma_next in itertools.pairwise(sigmas):
        x = walk.step(x, sigma, sigma_next, _let_go)
    return x


def generate(denoise: Denoiser, sigmas: Tensor, noise: Iterator[Tensor], stepping: Stepping) -> Tensor:
    """All sources from the prior; their sum is the piece. Draws as `impute` does with nothing known."""
    nothing = torch.zeros(1).to(sigmas)
    return impute(denoise, Known(nothing, nothing), sigmas, noise, stepping)


def impute(denoise: Denoiser, known: Known, sigmas: Tensor, noise: Iterator[Tensor], stepping: Stepping) -> Tensor:
    """The sources that go with the known ones (section 4.2.2): these are noised anew to the level of every step.

    The result holds what is known as it is. The rest follows its entries of the score, so without corrections it only
    hears the known through the network; corrections let both agree.
    """
    x = impute_steps(denoise, known, begun(sigmas, noise), Part(sigmas, range(len(sigmas) - 1)), noise, stepping)
    return held(known, x)


@dataclass(frozen=True, slots=True)
class Part:
    """The `steps` that are to be made of a walk through all of `sigmas`."""

    sigmas: Tensor
    steps: range


def begun(sigmas: Tensor, noise: Iterator[Tensor]) -> Tensor:
    """Where a walk starts: noise of the first level."""
    return sigmas[0] * next(noise)


def impute_steps(
    denoise: Denoiser, known: Known, x: Tensor, part: Part, noise: Iterator[Tensor], stepping: Stepping
) -> Tensor:
    """A part of `impute`'s walk, from where the steps before led.

    A walk may be cut between any two steps and gives the same bits, if each step finds the same draws: `Stepping.draws`
    of them.
    """
    sigmas, steps = part.sigmas, part.steps
    walk = _Walk(prior(denoise), noise, stepping.corrections, stepping.gamma(len(sigmas) - 1))
    for sigma, sigma_next in itertools.pairwise(sigmas[steps.start : steps.stop + 1]):
        noisy = known.sources + sigma * next(noise)
        x = walk.step(x, sigma, sigma_next, partial(_held, known.mask, noisy))
    return x


def held(known: Known, x: Tensor) -> Tensor:
    """x with what is known in its place."""
    return _held(known.mask, known.sources, x)


def _held(mask: Tensor, known: Tensor, x: Tensor) -> Tensor:
    return mask * known + (1 - mask) * x


@dataclass(frozen=True, slots=True)
class _Walk:
    """What all steps of one run share."""

    slope: Slope
    noise: Iterator[Tensor]
    corrections: int
    gamma: float

    def step(self, x: Tensor, sigma: Tensor, sigma_next: Tensor, hold: Hold) -> Tensor:
        """From one level to the next, `corrections` times; in between, noise undoes the step."""
        sigma_hat = sigma * (1 + self.gamma)
        for correction in range(self.corrections):
            x = hold(x) + (sigma_hat.square() - sigma.square()).sqrt() * next(self.noise)
            x, direction = self.slope(x, sigma_hat)
            x = x + (sigma_next - sigma_hat) * direction
            if correction < self.corrections - 1:
                x = x + (sigma.square() - sigma_next.square()).sqrt() * next(self.noise)
        return x
