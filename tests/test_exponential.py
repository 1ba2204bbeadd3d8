"""Promises of the exponential solver, on correlated Gaussian sources whose denoiser is known in closed form."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from pyserver.diffusion import exponential, joint, posteriors
from pyserver.diffusion.joint import Stepping
from pyserver.diffusion.posteriors import Pull, Slope
from pyserver.diffusion.schedules import diffusion_schedule

COVARIANCE = torch.tensor([[0.04, 0.015, -0.01], [0.015, 0.03, 0.005], [-0.01, 0.005, 0.02]], dtype=torch.float64)
MIXTURE = torch.full((1, 1, 200), 0.3).double()
DIRAC, GAUSSIAN = 1, None
POSTERIORS = pytest.mark.parametrize("constrained", [DIRAC, GAUSSIAN])


def denoise(x: Tensor, sigma_B: Tensor) -> Tensor:
    return COVARIANCE @ torch.linalg.inv(COVARIANCE + sigma_B[0].square() * torch.eye(3).double()) @ x


def noise(sources: int = 3) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(0)
    while True:
        yield torch.randn(1, sources, 200, generator=generator, dtype=torch.float64)


def levels(steps: int) -> Tensor:
    return diffusion_schedule(steps, 1e-3, 0.5, 7.0).double()


def both(constrained: int | None) -> tuple[Pull, Slope]:
    if constrained is None:
        return posteriors.gaussian_pull(denoise, MIXTURE, 0.75, 3), posteriors.gaussian(denoise, MIXTURE, 0.75)
    return (
        posteriors.dirac_pull(denoise, MIXTURE, constrained, 3),
        posteriors.dirac(denoise, MIXTURE, constrained),
    )


def found(pull: Pull, steps: int, stepping: Stepping | None = None) -> Tensor:
    return exponential.separate(pull, levels(steps), noise(), stepping or Stepping())


@POSTERIORS
@pytest.mark.parametrize("sigma", [0.01, 0.3])
def test_a_pull_is_its_slope_in_other_words(constrained: int | None, sigma: float) -> None:
    pull, slope = both(constrained)
    x, level = next(noise()), torch.tensor(sigma).double()
    start, target = pull.target(x, level)
    away = start - target
    direction = (away + (pull.stiffness - 1) * pull.common(away)) / level
    same_start, expected = slope(x, level)
    free = [source for source in range(3) if source != constrained]
    assert torch.allclose(start, same_start)
    assert torch.allclose(direction[:, free], expected[:, free])


@POSTERIORS
def test_it_goes_where_many_small_euler_steps_go(constrained: int | None) -> None:
    pull, slope = both(constrained)
    sigmas = levels(4000)
    there = joint.separate(slope, sigmas, noise(), Stepping())
    if constrained is not None:
        there = posteriors.with_remainder(there, MIXTURE, constrained)
    assert float((found(pull, 200) - there).abs().max()) < 1e-3


@POSTERIORS
def test_half_the_step_leaves_a_quarter_of_the_error(constrained: int | None) -> None:
    """Of the steps before the last, to 0, which is of first order."""
    pull, _ = both(constrained)

    def error(steps: int) -> float:
        return float((found(pull, steps) - found(pull, 2560)).square().mean().sqrt())

    assert 3.0 < error(40) / error(80) < 5.5
    assert 3.0 < error(80) / error(160) < 5.5


@POSTERIORS
@pytest.mark.parametrize("steps", [3, 5, 10])
@pytest.mark.parametrize("stepping", [Stepping(), Stepping(churn=20.0), Stepping(corrections=3, churn=5.0)])
def test_no_number_of_steps_diverges(constrained: int | None, steps: int, stepping: Stepping) -> None:
    """What is left of noise falls with its level, by a coefficient and steps with which Euler's method lets it grow."""
    silence, sigmas = torch.zeros(1, 1, 200).double(), levels(steps)

    def quiet(x: Tensor, sigma_B: Tensor) -> Tensor:
        return torch.zeros_like(x)

    if constrained is None:
        pull, slope = posteriors.gaussian_pull(quiet, silence, 0.25, 5), posteriors.gaussian(quiet, silence, 0.25)
    else:
        pull, slope = posteriors.dirac_pull(quiet, silence, 1, 5), posteriors.dirac(quiet, silence, 1)
    assert joint.error_gain(pull.stiffness, sigmas, stepping) > 1.3
    left = exponential.separate(pull, sigmas[:-1], noise(5), stepping).std()
    assert float(left) < 1.2 * float(sigmas[-2])
    assert float(joint.separate(slope, sigmas[:-1], noise(5), stepping).std()) > 3 * float(left)


def test_the_dirac_posterior_sums_to_the_mixture_at_every_number_of_steps() -> None:
    pull, _ = both(DIRAC)
    for steps in (1, 2, 7):
        assert torch.allclose(found(pull, steps).sum(1, keepdim=True), MIXTURE)


def test_the_projected_posterior_nears_the_posterior_mean() -> None:
    """Means of 0.04 to 0.14 for a mixture of 0.3: within 0.02, and the stems sum to it at every number of steps."""
    pull = posteriors.projected_pull(denoise, MIXTURE, 3)
    cross, power = COVARIANCE.sum(1), COVARIANCE.sum()
    for steps in (1, 5, 40):
        samples = found(pull, steps, Stepping(churn=20.0))
        assert torch.allclose(samples.sum(1, keepdim=True), MIXTURE)
    assert float((samples[0].mean(1) - cross / power * 0.3).abs().max()) < 0.02


def test_a_mixture_without_noise_has_no_gaussian_posterior() -> None:
    with pytest.raises(ValueError, match="positive scale"):
        posteriors.gaussian_pull(denoise, MIXTURE, 0.0, 3)
