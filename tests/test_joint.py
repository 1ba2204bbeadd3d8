"""Promises of the joint samplers, on correlated Gaussian sources whose score and posteriors are known in closed form.

Two references. The samplers are linear there, so mean and covariance of their samples follow exactly from the paper's
formulas, step by step; samples meet them within their own statistical error. And what they are for: the distribution
itself, from which the published algorithms stay away by as much as is stated (they take the mixture and what is known
for noisy when they are not; corrections are what brings them near).
"""

import itertools
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from pyserver.diffusion import joint, posteriors
from pyserver.diffusion.joint import Known, Stepping
from pyserver.diffusion.scalings import per_item
from pyserver.diffusion.schedules import diffusion_schedule

COVARIANCE = torch.tensor([[0.04, 0.015, -0.01], [0.015, 0.03, 0.005], [-0.01, 0.005, 0.02]], dtype=torch.float64)
SAMPLES = 4000
GIVEN = 0.25
ONES, EYE = torch.ones(3).double(), torch.eye(3).double()
STEPPINGS = [Stepping(), Stepping(churn=20.0), Stepping(corrections=3, churn=5.0)]


def denoise(x: Tensor, sigma_B: Tensor) -> Tensor:
    return COVARIANCE @ torch.linalg.inv(COVARIANCE + sigma_B[0].square() * EYE) @ x


def noise(seed: int = 0) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield torch.randn(1, 3, SAMPLES, generator=generator, dtype=torch.float64)


def levels(steps: int, sigma_min: float, sigma_max: float) -> Tensor:
    return diffusion_schedule(steps, sigma_min, sigma_max, 7.0).double()


def score_matrix(sigma: Tensor) -> Tensor:
    return -torch.linalg.inv(COVARIANCE + sigma.square() * EYE)


Affine = tuple[Tensor, Tensor]
"""(matrix, vector) on the state (x, z), z being the noise of what is known."""
Slopes = Callable[[Tensor], tuple[Affine, Affine]]
"""At a level: where x starts, and the slope there."""


def blocks(of_x: Tensor, of_z: Tensor | None = None, constant: Tensor | None = None) -> Affine:
    matrix = torch.cat([of_x, torch.zeros(3, 3) if of_z is None else of_z], dim=1).double()
    return matrix, torch.zeros(3).double() if constant is None else constant


def prior_slope(sigma: Tensor) -> tuple[Affine, Affine]:
    return blocks(EYE), blocks(-sigma * score_matrix(sigma))


def dirac_slope(mixture: float, constrained: int) -> Slopes:
    project = EYE.clone()
    project[constrained] = -1.0
    project[constrained, constrained] = 0.0

    def slope(sigma: Tensor) -> tuple[Affine, Affine]:
        scores, offset = score_matrix(sigma), mixture * EYE[constrained]
        against = -sigma * (scores - scores[constrained])
        return blocks(project, constant=offset), blocks(against @ project, constant=against @ offset)

    return slope


def gaussian_slope(mixture: float, coefficient: float) -> Slopes:
    def slope(sigma: Tensor) -> tuple[Affine, Affine]:
        pull = -sigma / (2 * (coefficient * sigma).square())
        matrix = -sigma * score_matrix(sigma) - pull * torch.outer(ONES, ONES)
        return blocks(EYE), blocks(matrix, constant=pull * mixture * ONES)

    return slope


def expected(slopes: Slopes, sigmas: Tensor, stepping: Stepping, known: Affine | None = None) -> tuple[Tensor, Tensor]:
    """Mean and covariance of x after all steps; `known` is (mask, values) of the sources."""
    gamma = min(stepping.churn / (len(sigmas) - 1), 2**0.5 - 1)
    mean, covariance = torch.zeros(6).double(), torch.block_diag(sigmas[0] ** 2 * EYE, EYE)

    def apply(step: Affine) -> None:
        nonlocal mean, covariance
        matrix = torch.cat([step[0], torch.cat([torch.zeros(3, 3).double(), EYE], dim=1)])
        mean = matrix @ mean + torch.cat([step[1], torch.zeros(3)])
        covariance = matrix @ covariance @ matrix.T

    def add_noise(high: Tensor, low: Tensor) -> None:
        covariance[:3, :3] += (high**2 - low**2) * EYE

    for sigma, sigma_next in itertools.pairwise(sigmas):
        covariance[3:, :], covariance[:, 3:] = 0.0, 0.0  # z is drawn anew
        covariance[3:, 3:] = EYE
        for correction in range(stepping.corrections):
            if known is not None:
                mask = torch.diag(known[0])
                apply(blocks(EYE - mask, sigma * mask, mask @ known[1]))
            high = sigma * (1 + gamma)
            add_noise(high, sigma)
            (start, offset), (direction, push) = slopes(high)
            apply((start + (sigma_next - high) * direction, offset + (sigma_next - high) * push))
            if correction < stepping.corrections - 1:
                add_noise(sigma, sigma_next)
    return mean[:3], covariance[:3, :3]


def assert_moments(x: Tensor, mean: Tensor, covariance: Tensor, errors: float = 5.0) -> None:
    """Within so many standard errors of the mean and of every entry of the covariance."""
    drawn = x[0]
    spread = covariance.diag().sqrt()
    assert bool(((drawn.mean(1) - mean).abs() <= errors * spread / SAMPLES**0.5 + 1e-9).all())
    of_entries = (torch.outer(spread, spread).square() + covariance.square()).sqrt() / SAMPLES**0.5
    assert bool(((torch.cov(drawn) - covariance).abs() <= errors * of_entries + 1e-9).all())


@pytest.mark.parametrize("stepping", STEPPINGS, ids=str)
def test_samplers_do_what_the_formulas_say(stepping: Stepping) -> None:
    low, high = levels(30, 1e-2, 5.0), levels(60, 1e-2, 1.0)
    assert_moments(joint.generate(denoise, low, noise(), stepping), *expected(prior_slope, low, stepping))
    mask, values = EYE[0], GIVEN * EYE[0]
    imputed = joint.impute(denoise, Known(values[None, :, None], mask[None, :, None]), low, noise(), stepping)
    assert torch.equal(imputed[:, 0], torch.full_like(imputed[:, 0], GIVEN))
    mean, covariance = expected(prior_slope, low, stepping, (mask, values))
    free = 1 - torch.outer(mask, mask)
    covariance = covariance * free * (1 - mask) * (1 - mask)[:, None]
    assert_moments(imputed, mean * (1 - mask) + values, covariance)
    mixture = torch.full((1, 1, SAMPLES), 0.3).double()
    for constrained in range(3):
        dirac = posteriors.dirac(denoise, mixture, constrained)
        found = joint.separate(dirac, high, noise(), stepping)
        assert_moments(found, *expected(dirac_slope(0.3, constrained), high, stepping))
        whole = posteriors.with_remainder(found, mixture, constrained)
        assert torch.allclose(whole.sum(1, keepdim=True), mixture)
    gaussian = posteriors.gaussian(denoise, mixture, 1.5)
    assert_moments(
        joint.separate(gaussian, high, noise(), stepping), *expected(gaussian_slope(0.3, 1.5), high, stepping)
    )


def test_generation_has_the_sources_own_covariance() -> None:
    """300 steps of the plain flow: within 4 % of the largest variance, of which 2 % is Monte Carlo's standard error."""
    x = joint.generate(denoise, levels(300, 1e-3, 5.0), noise(), Stepping())
    assert float(x[0].mean(1).abs().max()) < 5 * (0.04 / SAMPLES) ** 0.5
    assert float((torch.cov(x[0]) - COVARIANCE).abs().max()) < 0.08 * 0.04


def conditional(of: list[int], on: Tensor, value: float) -> tuple[Tensor, Tensor]:
    """Mean and covariance of the sources `of`, given that `on @ x` is `value`."""
    cross, power = COVARIANCE[of] @ on, on @ COVARIANCE @ on
    return cross / power * value, COVARIANCE[of][:, of] - torch.outer(cross, cross) / power


def test_imputation_nears_the_conditional_distribution() -> None:
    """40 corrections: means within 0.006 (of 0.09), deviations within a tenth; without any, the mean is half as far."""
    known = Known(GIVEN * EYE[0][None, :, None], EYE[0][None, :, None])
    mean, covariance = conditional([1, 2], EYE[0], GIVEN)
    sigmas = levels(60, 1e-3, 5.0)
    x = joint.impute(denoise, known, sigmas, noise(), Stepping(corrections=40))[0, 1:]
    assert float((x.mean(1) - mean).abs().max()) < 0.006 + 3 * (0.025 / SAMPLES) ** 0.5
    assert float((x.std(1) / covariance.diag().sqrt() - 1).abs().max()) < 0.1
    alone = joint.impute(denoise, known, sigmas, noise(), Stepping())[0, 1:].mean(1)
    assert float((alone / mean).max()) < 0.7


@pytest.mark.parametrize("constrained", [0, 2])
def test_separation_nears_the_posterior_mean(constrained: int) -> None:
    """100 steps with 10 corrections: within 0.006 of means of 0.04 to 0.14 for Dirac, 0.012 for the Gaussian one."""
    mean, _ = conditional([0, 1, 2], ONES, 0.3)
    mixture, sigmas, stepping = (
        torch.full((1, 1, SAMPLES), 0.3).double(),
        levels(100, 1e-4, 1.0),
        Stepping(corrections=10),
    )
    dirac = joint.separate(posteriors.dirac(denoise, mixture, constrained), sigmas, noise(), stepping)
    error = 4 * (0.02 / SAMPLES) ** 0.5
    found = posteriors.with_remainder(dirac, mixture, constrained)[0].mean(1)
    assert float((found - mean).abs().max()) < 0.006 + error
    gaussian = joint.separate(posteriors.gaussian(denoise, mixture, 0.75), sigmas, noise(), stepping)[0].mean(1)
    assert float((gaussian - mean).abs().max()) < 0.012 + error
    assert float((gaussian - mean).abs().max()) > float((found - mean).abs().max())


def test_independent_sources_are_asked_each_about_itself() -> None:
    """ISDM: with the sources' own variances only, the posterior is that of independent sources."""
    variances = COVARIANCE.diag()

    def alone(x: Tensor, sigma_B: Tensor) -> Tensor:
        return torch.cat([v / (v + per_item(sigma_B.square(), x)) * x[:, [i]] for i, v in enumerate(variances)], dim=1)

    mixture = torch.full((1, 1, SAMPLES), 0.3).double()
    found = joint.separate(
        posteriors.dirac(alone, mixture, 1), levels(100, 1e-4, 1.0), noise(), Stepping(corrections=10)
    )
    mean = posteriors.with_remainder(found, mixture, 1)[0].mean(1)
    assert float((mean - variances / variances.sum() * 0.3).abs().max()) < 0.006 + 4 * (0.02 / SAMPLES) ** 0.5


def test_a_region_in_time_is_held_as_a_stem_is() -> None:
    """What is known may be a stem, a region of all stems, or both; the rest is made, the known comes back as it is."""
    sources = torch.arange(3 * SAMPLES).reshape(1, 3, SAMPLES).double() / 1e5
    stem, region = torch.tensor([1.0, 0, 0]).double()[:, None], (torch.arange(SAMPLES) < 100).double()[None]
    for mask in (stem, region, torch.maximum(stem, region)):
        x = joint.impute(denoise, Known(sources, mask), levels(8, 1e-2, 5.0), noise(), Stepping(corrections=2))
        whole = mask.expand(3, SAMPLES)[None] == 1
        assert torch.equal(x[whole], sources[whole])
        assert not torch.isclose(x[~whole], sources[~whole]).any()


def test_the_region_known_is_heard_by_the_network() -> None:
    """Samples that follow each other are correlated here, so the region goes on into what is made."""
    length = 6
    covariance = 0.04 * 0.95 ** (torch.arange(length)[:, None] - torch.arange(length)).abs().double()

    def in_time(x: Tensor, sigma_B: Tensor) -> Tensor:
        return x @ (covariance @ torch.linalg.inv(covariance + sigma_B[0].square() * torch.eye(length).double()))

    def draws() -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(3)
        while True:
            yield torch.randn(2000, 1, length, generator=generator, dtype=torch.float64)

    known = Known(torch.full((1, 1, length), 0.3).double(), (torch.arange(length) < 3).double())
    x = joint.impute(in_time, known, levels(60, 1e-3, 5.0), draws(), Stepping(corrections=20))
    assert float(x[:, 0, 3].mean()) == pytest.approx(0.3 * 0.95, abs=0.02)
    assert float(x[:, 0, 5].mean()) == pytest.approx(0.3 * 0.95**3, abs=0.02)


@pytest.mark.parametrize(("steps", "churn"), [(20, 0.0), (20, 6.0), (40, 6.0), (60, 6.0), (60, 20.0)])
@pytest.mark.parametrize("coefficient", [None, 0.75, 0.25])
def test_it_is_known_which_settings_diverge(steps: int, churn: float, coefficient: float | None) -> None:
    """Of silence, which a sampler that is stable leaves at the lowest level of noise."""
    sigmas, stepping, sources = levels(steps, 1e-3, 0.5), Stepping(churn=churn), 5
    mixture, silence = torch.zeros(1, 1, 500).double(), lambda x, sigma_B: torch.zeros_like(x)
    if coefficient is None:
        slope, stiffness = posteriors.dirac(silence, mixture, 0), posteriors.dirac_stiffness(sources)
    else:
        slope = posteriors.gaussian(silence, mixture, coefficient)
        stiffness = posteriors.gaussian_stiffness(sources, coefficient)
    generator = torch.Generator().manual_seed(1)
    draws = (torch.randn(1, sources, 500, generator=generator, dtype=torch.float64) for _ in itertools.count())
    left = float(joint.separate(slope, sigmas, draws, stepping).square().mean().sqrt())
    gain = joint.error_gain(stiffness, sigmas, stepping)
    if gain < 0.9:
        assert left < 20e-3
    elif gain > 1.3:
        assert left > 100e-3
    assert (gain > 1) == (coefficient == 0.25 or (steps == 20 and (churn > 0 or coefficient is not None)))


def test_the_papers_own_failures_are_foretold() -> None:
    """Table 5: at a coefficient of 0.25 all runs are lost (-41 to -48 dB), at 0.5 those with churn of 40 and more."""
    sigmas = levels(150, 1e-4, 1.0)
    for churn in (0.0, 1.0, 20.0, 40.0, 60.0):
        for coefficient in (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0):
            stiffness = posteriors.gaussian_stiffness(4, coefficient)
            lost = coefficient == 0.25 or (coefficient == 0.5 and churn >= 40)
            assert (joint.error_gain(stiffness, sigmas, Stepping(churn=churn)) > 1.05) == lost


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Stepping(corrections=0), "at least once"),
        (lambda: Stepping(churn=-1.0), "churn"),
        (lambda: posteriors.gaussian(denoise, torch.zeros(1, 1, 4), 0.0), "positive scale"),
        (lambda: posteriors.with_remainder(torch.zeros(1, 3, 4), torch.zeros(1, 1, 4), 3), "0 to 2"),
    ],
)
def test_what_makes_no_sense_is_refused(make: Callable[[], object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        make()
