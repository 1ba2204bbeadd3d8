"""Promises of the diffusion mathematics, on cases whose answer is known in closed form."""

import itertools
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pyserver.diffusion import samplers, schedules
from pyserver.diffusion.noise import normal_stream
from pyserver.diffusion.scalings import consistency_scalings, edm_loss_weight, edm_scalings, per_item, precondition

VARIANCE = 0.09
SHAPE = (1, 1, 40_000)


def gaussian_denoiser(x: Tensor, sigma_B: Tensor) -> Tensor:
    """The exact denoiser of data from N(0, VARIANCE)."""
    return x * per_item(VARIANCE / (VARIANCE + sigma_B.square()), x)


def gaussian_consistency(sigma_min: float) -> samplers.Denoiser:
    """The exact consistency function of the same data: along the flow, x keeps its ratio to √(VARIANCE + σ²)."""

    def follow_flow(x: Tensor, sigma_B: Tensor) -> Tensor:
        return x * per_item(((VARIANCE + sigma_min**2) / (VARIANCE + sigma_B.square())).sqrt(), x)

    return follow_flow


def counted(noise: Iterator[Tensor]) -> tuple[Iterator[Tensor], list[Tensor]]:
    drawn: list[Tensor] = []

    def draw() -> Iterator[Tensor]:
        for tensor in noise:
            drawn.append(tensor)
            yield tensor

    return draw(), drawn


@given(st.floats(1e-5, 1e-2), st.floats(0.01, 1.0))
def test_consistency_scalings_are_the_identity_at_sigma_min(sigma_min: float, sigma_data: float) -> None:
    x = torch.linspace(-3, 3, 7)[None]
    coefficients = consistency_scalings(torch.tensor([sigma_min]), sigma_data, sigma_min)
    result = precondition(lambda scaled, noise: torch.full_like(scaled, 1e6), x, coefficients)
    assert coefficients.out.item() == 0
    assert torch.allclose(result, x, rtol=1e-6)


@given(st.floats(1e-4, 10), st.floats(0.01, 1.0))
def test_edm_scalings_give_the_network_unit_variance_at_both_ends(sigma: float, sigma_data: float) -> None:
    c = edm_scalings(torch.tensor([sigma], dtype=torch.float64), sigma_data)
    assert (c.inp**2 * (sigma_data**2 + sigma**2)).item() == pytest.approx(1)
    # target = (x_0 - skip·(x_0 + σn)) / out
    assert (((1 - c.skip) ** 2 * sigma_data**2 + c.skip**2 * sigma**2) / c.out**2).item() == pytest.approx(1)
    assert (edm_loss_weight(torch.tensor([sigma], dtype=torch.float64), sigma_data) * c.out**2).item() == pytest.approx(
        1
    )


def test_the_root_in_consistency_out_holds_sigma_as_published() -> None:
    c = consistency_scalings(torch.tensor([0.5], dtype=torch.float64), 0.2, 0.1)
    assert c.out.item() == pytest.approx(0.4 * 0.2 / (0.5**2 + 0.2**2) ** 0.5)
    assert c.skip.item() == pytest.approx(0.2**2 / (0.4**2 + 0.2**2))


@given(st.integers(1, 40), st.floats(1e-5, 1e-3), st.floats(1e-2, 80), st.floats(1, 12))
def test_schedules_fall_from_sigma_max_to_sigma_min_and_zero(n: int, low: float, high: float, rho: float) -> None:
    diffusion = schedules.diffusion_schedule(n, low, high, rho)
    consistency = schedules.consistency_schedule(n, low, high, rho)
    assert (len(diffusion), len(consistency), len(schedules.distillation_grid(n, low, high, rho))) == (n + 1, n + 2, n)
    for sigmas in (diffusion, consistency):
        assert (sigmas[:-1] > sigmas[1:]).all()
        assert sigmas[0].item() == pytest.approx(high, rel=1e-5)
        assert sigmas[-1] == 0
    assert consistency[-2].item() == pytest.approx(low, rel=1e-4, abs=1e-6 * high)


@pytest.mark.parametrize(("n", "low", "high"), [(0, 0.1, 1.0), (3, 0.0, 1.0), (3, 2.0, 1.0)])
def test_impossible_schedules_are_refused(n: int, low: float, high: float) -> None:
    with pytest.raises(ValueError, match=r"schedule|sigma_min"):
        schedules.karras_ramp(n, low, high, 7.0)


def test_heun_converges_to_the_exact_flow_at_second_order() -> None:
    def error(steps: int) -> float:
        sigmas = schedules.diffusion_schedule(steps, 1e-3, 1.0, 7.0).double()
        x_start = torch.zeros(1, 1, 3, dtype=torch.float64)
        z = torch.tensor([[[1.0, -2.0, 0.5]]], dtype=torch.float64)
        got = samplers.heun(gaussian_denoiser, x_start, sigmas, iter([z]))
        return float((got - z * (VARIANCE / (VARIANCE + 1)) ** 0.5).abs().max())

    errors = [error(steps) for steps in (10, 20, 40)]
    assert errors[2] < 2e-3
    for coarse, fine in itertools.pairwise(errors):
        assert 3 < coarse / fine < 6


def test_heun_draws_once_without_churn_and_once_a_step_with_it() -> None:
    sigmas = schedules.diffusion_schedule(5, 1e-3, 1.0, 7.0)
    for churn, draws in ((0.0, 1), (1.0, 6)):
        noise, drawn = counted(normal_stream(0, 0, (2, 1, 4)))
        samplers.heun(gaussian_denoiser, torch.zeros(2, 1, 4), sigmas, noise, churn=churn)
        assert len(drawn) == draws


@pytest.mark.parametrize(("corrections", "churn"), [(1, 0.0), (1, 20.0), (3, 20.0)])
def test_stochastic_sampler_reaches_the_data_distribution(corrections: int, churn: float) -> None:
    # σ_max far above the data, so that the start is as good as pure noise; the bias of Euler falls with their number
    steps = 600
    sigmas = schedules.diffusion_schedule(steps, 1e-3, 10.0, 7.0)
    noise, drawn = counted(normal_stream(1, 2, SHAPE))
    x = samplers.edm_stochastic(
        gaussian_denoiser, torch.zeros(SHAPE), sigmas, noise, corrections=corrections, churn=churn
    )
    assert x.std().item() == pytest.approx(VARIANCE**0.5, rel=0.02)
    assert len(drawn) == 1 + steps * (2 * corrections - 1)


@pytest.mark.parametrize(
    ("sampler", "expected_draws"),
    [(samplers.consistency_multistep, (1, 1, 2, 3)), (samplers.consistency_multistep_textbook, (1, 2, 3, 4))],
)
def test_multistep_consistency_draws_as_often_as_its_algorithm_says(
    sampler: samplers.Denoiser, expected_draws: tuple[int, ...]
) -> None:
    for steps, draws in zip((1, 2, 3, 4), expected_draws, strict=True):
        sigmas = schedules.consistency_schedule(steps, 1e-4, 0.01, 9.0)
        noise, drawn = counted(normal_stream(0, 0, (1, 2, 8)))
        visited: list[float] = []

        def denoise(x: Tensor, sigma_B: Tensor, visited: list[float] = visited) -> Tensor:
            visited.append(sigma_B.item())
            return x

        sampler(denoise, torch.zeros(1, 2, 8), sigmas, noise)  # type: ignore[call-arg]
        assert len(drawn) == draws
        assert visited == sigmas[:steps].tolist()


def test_textbook_multistep_keeps_the_data_distribution_and_the_published_one_does_not() -> None:
    sigmas = schedules.consistency_schedule(4, 1e-3, 10.0, 1.0)
    denoise = gaussian_consistency(sigmas[-2].item())

    def spread(sampler: samplers.Denoiser) -> float:
        return float(sampler(denoise, torch.zeros(SHAPE), sigmas, normal_stream(3, 0, SHAPE)).std())  # type: ignore[call-arg]

    assert spread(samplers.consistency_multistep_textbook) == pytest.approx(VARIANCE**0.5, rel=0.01)
    # the last evaluation meets a sample without the noise that its level promises, and shrinks it
    assert spread(samplers.consistency_multistep) < 0.2 * VARIANCE**0.5


def test_sampling_starts_from_the_separators_estimate() -> None:
    x_start = torch.full((1, 1, 4), 0.25)
    sigmas = schedules.consistency_schedule(1, 1e-4, 0.01, 9.0)
    z = torch.ones(1, 1, 4)
    got = samplers.consistency_multistep(lambda x, sigma_B: x, x_start, sigmas, iter([z]))
    assert torch.equal(got, x_start + sigmas[0] * z)


def test_heun_step_takes_one_level_for_all_or_one_an_item() -> None:
    x = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))
    high, low = torch.tensor([0.5, 0.2]), torch.tensor([0.1, 0.05])
    together = samplers.heun_step(gaussian_denoiser, x, high, low)
    for i in range(2):
        assert torch.allclose(together[i : i + 1], samplers.heun_step(gaussian_denoiser, x[i : i + 1], high[i], low[i]))


def test_clamped_denoisers_stay_within_the_limit() -> None:
    denoise = samplers.clamped(lambda x, sigma_B: 3 * x)
    assert denoise(torch.tensor([[-1.0, 0.1, 1.0]]), torch.ones(1)).tolist() == [[-1.0, pytest.approx(0.3), 1.0]]


@settings(max_examples=30)
@given(st.integers(-(2**70), 2**70), st.integers(-(2**63), 2**63 - 1))
def test_noise_is_a_function_of_seed_and_position(seed: int, position: int) -> None:
    first = normal_stream(seed, position, (2, 3))
    other = normal_stream(seed, position + 1, (2, 3))
    a, b = next(first), next(other)
    c = next(first)
    again = normal_stream(seed, position, (2, 3))
    assert torch.equal(a, next(again))
    assert torch.equal(c, next(again))
    assert not torch.equal(a, b)
    assert a.dtype == torch.float32


def test_noise_is_standard_normal_and_windows_are_uncorrelated() -> None:
    here, there = (next(normal_stream(7, position, (1, SHAPE[-1])))[0] for position in (-44_100, 0))
    assert here.mean().item() == pytest.approx(0, abs=0.02)
    assert here.std().item() == pytest.approx(1, abs=0.01)
    assert torch.corrcoef(torch.stack([here, there]))[0, 1].item() == pytest.approx(0, abs=0.02)
