"""Which way noisy sources go: along the score of the prior, or of the prior given a mixture (MSDM, section 4).

Axes: B batch, S sources, any others, L samples. A mixture has 1 for S. Levels share the waveform's unit.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from pyserver.diffusion.samplers import Denoiser

Slope = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""`(x, sigma)` -> where the step starts, which is x unless a constraint moves it, and `dx / dsigma` there.

By the probability flow with `sigma(t) = t` (eq. 3) the slope is `-sigma` times the score.
"""


def score(denoise: Denoiser, x: Tensor, sigma: Tensor) -> Tensor:
    """`S(x; sigma) = (D(x; sigma) - x) / sigma²`, the gradient of the log-density at noise level sigma (a scalar)."""
    return (denoise(x, level_of_items(sigma, x)) - x) / sigma.square()


def prior(denoise: Denoiser) -> Slope:
    """No mixture is given: total generation."""

    def slope(x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        return x, (x - denoise(x, level_of_items(sigma, x))) / sigma

    return slope


def dirac(denoise: Denoiser, mixture: Tensor, constrained: int) -> Slope:
    """Sources that sum to the mixture exactly: `constrained` numbers the one that is what others leave (eqs. 8, 19).

    The score of a free source is its own minus that of the constrained one (eq. 23; with independent networks, which
    `denoise` then asks each about its own source, eq. 28). The choice matters by decibels (table 5).
    """

    def slope(x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        x = with_remainder(x, mixture, constrained)
        every = (x - denoise(x, level_of_items(sigma, x))) / sigma
        return x, every - every[:, constrained : constrained + 1]

    return slope


def gaussian(denoise: Denoiser, mixture: Tensor, coefficient: float) -> Slope:
    """Sources that sum to the mixture up to Gaussian noise of scale `gamma = coefficient * sigma` (eqs. 7 and 26).

    The likelihood's gradient points towards the mixture; as printed in the paper it has the opposite sign. As published
    it is `(y - sum x) / (2 gamma²)`.
    """
    if coefficient <= 0:
        raise ValueError(f"the mixture's noise has a positive scale, not {coefficient} times sigma")

    def slope(x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        gamma = coefficient * sigma
        missing = mixture - x.sum(1, keepdim=True)
        own = (x - denoise(x, level_of_items(sigma, x))) / sigma
        return x, own - sigma / (2 * gamma.square()) * missing

    return slope


def dirac_stiffness(sources: int) -> float:
    """How much faster than its own noise the Dirac posterior moves what all free sources have in common."""
    return float(sources)


def gaussian_stiffness(sources: int, coefficient: float) -> float:
    """The same of the Gaussian posterior; with the paper's smallest coefficient, 0.25, it is 33 for four sources."""
    return 1 + sources / (2 * coefficient**2)


@dataclass(frozen=True, slots=True)
class Pull:
    """A posterior's slope as `dx / d log(sigma) = A (x - target)`, for solvers that integrate A exactly.

    `target(x, sigma)` gives where a step starts, as a `Slope` does, and what the network makes of it, moved onto or
    towards the mixture. A multiplies by `stiffness` what the free sources have in common, and by 1 what is left.
    """

    target: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    stiffness: float
    constrained: int | None = None

    def common(self, x: Tensor) -> Tensor:
        """The part of x, (B, S, ..., L), that A multiplies by `stiffness`; with a constraint the sources sum to 0."""
        if self.constrained is None:
            return x.mean(1, keepdim=True).expand_as(x)
        left = x[:, self.constrained : self.constrained + 1]
        common = (-left / (x.shape[1] - 1)).repeat(1, x.shape[1], *(1 for _ in x.shape[2:]))
        common[:, self.constrained : self.constrained + 1] = left
        return common


def dirac_pull(denoise: Denoiser, mixture: Tensor, constrained: int, sources: int) -> Pull:
    """`dirac` as a pull: the target is the denoised sources, each with an equal share of what they miss."""

    def target(x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        x = with_remainder(x, mixture, constrained)
        clean = denoise(x, level_of_items(sigma, x))
        return x, with_missing(clean, mixture, sources)

    return Pull(target, dirac_stiffness(sources), constrained)


def gaussian_pull(denoise: Denoiser, mixture: Tensor, coefficient: float, sources: int) -> Pull:
    """`gaussian` as a pull: the shares are smaller, the more noise the mixture is taken to have."""
    if coefficient <= 0:
        raise ValueError(f"the mixture's noise has a positive scale, not {coefficient} times sigma")

    def target(x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        clean = denoise(x, level_of_items(sigma, x))
        return x, with_missing(clean, mixture, sources + 2 * coefficient**2)

    return Pull(target, gaussian_stiffness(sources, coefficient))


def projected_pull(denoise: Denoiser, mixture: Tensor, sources: int) -> Pull:
    """The mixture bounds the denoised sources, not the noisy ones (as DDNM does for images, Wang et al. 2022).

    The Dirac posterior gives its constrained source the noise of all others, which the network never saw in training;
    here the noise of every source stays its own.
    """

    def target(x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        clean = denoise(x, level_of_items(sigma, x))
        return x, with_missing(clean, mixture, sources)

    return Pull(target, stiffness=1.0)


def with_missing(x: Tensor, mixture: Tensor, parts: float) -> Tensor:
    """x, each source with one of so many equal parts of what all of them miss of the mixture."""
    return x + (mixture - x.sum(1, keepdim=True)) / parts


def with_remainder(x: Tensor, mixture: Tensor, constrained: int) -> Tensor:
    """x with source `constrained` replaced by what the others leave of the mixture."""
    if not 0 <= constrained < x.shape[1]:
        raise ValueError(f"there are sources 0 to {x.shape[1] - 1}, none numbered {constrained}")
    x = x.clone()
    x[:, constrained : constrained + 1] = 0
    x[:, constrained : constrained + 1] = mixture - x.sum(1, keepdim=True)
    return x


def level_of_items(sigma: Tensor, x: Tensor) -> Tensor:
    """One level for every item of the batch, shape (B)."""
    return sigma.to(x).expand(x.shape[0])
