"""Promises of the published models' training: losses with known values, draws within their grid, stages that train."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import checkpoint_parts
import pytest
import torch
from torch import Tensor, nn

from pyserver.diffusion.scalings import consistency_scalings, edm_loss_weight, edm_scalings
from pyserver.diffusion.schedules import distillation_grid
from pyserver.models.dicose import DicoseBSRoformer, DicoseConfig, DicoseUNet
from training.data.pool import CropConfig
from training.dicose_objectives import (
    ConsistencyObjective,
    DiffusionObjective,
    Distilled,
    MultiResolutionConfig,
    NoiseConfig,
    Noising,
    RefinerExample,
    Refiners,
    consistency_error,
    draw_distillation_sigmas,
    heun_step_chances,
    l1_and_spectral_error,
    lognormal_sigmas,
    ramp_sigmas,
    score_matching_error,
    squared_error,
    teacher_walk,
)
from training.dicose_stages import (
    DicoseModel,
    bs_roformer_musdb,
    consistency_stage,
    diffusion_stage,
    refiner_example,
    separator_stage,
    unet_slakh,
)
from training.loop import Run, Stage, TrainConfig, step_generator, train
from training.optimisers import OptimiserConfig

SIGMA_DATA, SIGMA_MIN = 0.2, 1e-4
NOISE = NoiseConfig(sigma_max=1.0, rho=7.0, grid_points=5)
GRID = distillation_grid(5, SIGMA_MIN, 1.0, 7.0)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_spectral_error_of_an_impulse_is_the_mean_of_the_windows() -> None:
    """The spectrum of an impulse has the magnitude of the window above it, in every bin."""
    error = torch.zeros(1, 1, 4000)
    error[..., 2000] = 0.5
    config = MultiResolutionConfig(window_samples=(256, 100), hop_samples=30, min_n_fft=128, weight=0.3)
    frames = 4000 // 30 + 1
    expected = 0.5 / 4000
    for window in (256, 100):
        offsets = [2000 - 30 * frame + window // 2 for frame in range(frames)]
        heights = [0.5 - 0.5 * math.cos(2 * math.pi * n / window) for n in offsets if 0 <= n < window]
        expected += 0.3 * 0.5 * sum(heights) / frames
    assert float(l1_and_spectral_error(error, torch.zeros_like(error), config)) == pytest.approx(expected, rel=1e-5)


def test_errors_are_per_item_and_zero_only_for_the_target() -> None:
    config = MultiResolutionConfig(window_samples=(64,), hop_samples=20, min_n_fft=64)
    estimate, target = normal(3, 2, 500), normal(3, 2, 500, seed=1)
    for error, degree in ((squared_error, 2), (lambda a, b: l1_and_spectral_error(a, b, config), 1)):
        errors = error(estimate, target)
        assert errors.shape == (3,)
        assert torch.equal(error(target, target), torch.zeros(3))
        assert torch.allclose(error(estimate[[2, 0, 1]], target[[2, 0, 1]]), errors[[2, 0, 1]])
        assert torch.allclose(error(3 * estimate, 3 * target), 3**degree * errors)


def test_score_matching_weighs_the_error_by_lambda() -> None:
    clean, noise, sigma = normal(2, 1, 400), normal(2, 1, 400, seed=1), torch.tensor([0.05, 0.7])
    noising = Noising(clean, sigma, noise)
    offset = score_matching_error(lambda x, s: clean + 0.1, noising, clean, SIGMA_DATA, squared_error)
    assert torch.allclose(offset, 0.01 * edm_loss_weight(sigma, SIGMA_DATA))
    untouched = score_matching_error(lambda x, s: x, noising, clean, SIGMA_DATA, squared_error)
    assert torch.allclose(untouched, (1 + (sigma / SIGMA_DATA).square()) * noise.square().mean((1, 2)), rtol=1e-4)


def test_the_teacher_follows_a_straight_flow_exactly() -> None:
    """The ideal denoiser of a single waveform leads along straight lines to it."""
    only, x, index = normal(1, 1, 50), normal(3, 1, 50, seed=1), torch.tensor([0, 1, 2])
    walked = teacher_walk(lambda x, sigma: only.expand_as(x), x, GRID, index, 2)
    assert torch.allclose(walked, only + (x - only) * (GRID[index + 2] / GRID[index])[:, None, None], atol=1e-6)


def test_a_consistent_student_has_no_consistency_error_and_only_it_gets_gradients() -> None:
    only, index = normal(1, 1, 50), torch.tensor([2, 0])
    noising = Noising(normal(2, 1, 50, seed=1), GRID[index], normal(2, 1, 50, seed=2))
    gains = [torch.ones((), requires_grad=True) for _ in range(3)]
    student, target, teacher = (lambda x, sigma, gain=gain: gain * only.expand_as(x) for gain in gains)
    networks = Distilled(student=student, target=target, teacher=teacher)
    errors = consistency_error(networks, noising, GRID, index, 2, squared_error)
    assert torch.equal(errors, torch.zeros(2))
    lazy = replace(networks, student=lambda x, sigma: gains[0] * x)
    error = consistency_error(lazy, noising, GRID, index, 2, squared_error)
    assert torch.allclose(error, (noising.noisy - only).square().mean((1, 2)))
    error.sum().backward()  # type: ignore[no-untyped-call]
    assert [gain.grad is not None for gain in gains] == [True, False, False]


def test_noise_levels_are_distributed_as_published() -> None:
    log_sigma = lognormal_sigmas(normal(20000), NOISE).log()
    assert float(log_sigma.mean()) == pytest.approx(-3, abs=0.03)
    assert float(log_sigma.std()) == pytest.approx(1, abs=0.03)
    ends = torch.tensor([0.0, 1.0])
    assert torch.allclose(ramp_sigmas(ends, SIGMA_MIN, replace(NOISE, uniform_share=1.0)), GRID[[0, -1]], rtol=1e-4)
    lowest = float(ramp_sigmas(torch.ones(1), SIGMA_MIN, NOISE))
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([draw_distillation_sigmas(5, SIGMA_MIN, NOISE, generator) for _ in range(2000)])
    assert float(drawn[:, :2].log().mean()) == pytest.approx(-3, abs=0.05)
    assert lowest < drawn[:, 2:].min() < drawn[:, 2:].max() <= 1.0
    assert (drawn[:, :2] < lowest).any()


def test_heun_steps_are_as_likely_as_they_are_many() -> None:
    assert torch.allclose(heun_step_chances(5), torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64))


def test_distillation_stays_on_its_grid_and_reaches_all_of_it() -> None:
    calls: dict[str, list[Tensor]] = {"student": [], "target": [], "teacher": []}
    clean = normal(4, 1, 16)

    def denoiser(network: nn.Module, scalings: object) -> Callable[[Tensor, Tensor], Tensor]:
        role = next(role for role, known in networks.items() if known is network)
        distils = scalings is consistency_scalings or role == "teacher"

        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            if distils:
                calls[role].append(sigma)
            return x * 0.5

        return denoise

    networks = {role: nn.Identity() for role in calls}
    example = RefinerExample(clean, clean, denoiser, SIGMA_DATA, SIGMA_MIN)
    for seed in range(60):
        ConsistencyObjective(noise=NOISE)(Refiners(**networks), example, torch.Generator().manual_seed(seed))
    starts, ends = torch.stack(calls["student"]), torch.stack(calls["target"])
    assert set(starts.unique().tolist()) == set(GRID[:-1].tolist())
    assert set(ends.unique().tolist()) == set(GRID[1:].tolist())
    assert (ends < starts).all()
    assert set(torch.cat(calls["teacher"]).unique().tolist()) == set(GRID.tolist())


def test_a_perfect_denoiser_costs_nothing_and_the_diffusion_denoiser_is_clamped() -> None:
    clean = normal(2, 1, 64).clamp(-1, 1)
    perfect = RefinerExample(clean, clean, lambda network, scalings: lambda x, sigma: clean, SIGMA_DATA, SIGMA_MIN)
    loud = replace(perfect, clean=torch.ones(2, 1, 64), denoiser=lambda network, scalings: lambda x, sigma: x * 0 + 5)
    for example in (perfect, loud):
        assert DiffusionObjective()(nn.Identity(), example, torch.Generator().manual_seed(0)) == 0


def unet() -> DicoseUNet:
    torch.manual_seed(0)
    return DicoseUNet(DicoseConfig(separator=checkpoint_parts.UNET, refiner=checkpoint_parts.UNET, sigma_data=0.2))


def bs_roformer() -> DicoseBSRoformer:
    torch.manual_seed(0)
    settings = checkpoint_parts.BS_ROFORMER | {"attn_dropout": 0.1, "ff_dropout": 0.1}
    return DicoseBSRoformer(DicoseConfig(separator=settings, refiner=settings, sigma_data=0.06))


def stems(model: DicoseModel, seed: int = 0) -> Tensor:
    channels, length = (1, 8 * model.length_multiple) if isinstance(model, DicoseUNet) else (2, 2090)
    return 0.1 * normal(2, model.stems, channels, length, seed=seed)


MODELS = [unet, bs_roformer]
RECIPES = {unet: unet_slakh(), bs_roformer: bs_roformer_musdb()}


@pytest.mark.parametrize("make", MODELS)
def test_one_stem_is_trained_as_all_are_refined(make: Callable[[], DicoseModel]) -> None:
    model = make()
    model.eval()
    for parameter in model.parameters():  # the refiner must not be the zero function that some begin as
        nn.init.normal_(parameter, std=0.1)
    clean = stems(model)
    example = refiner_example(model, clean, 0.0, step_generator(0, 0))
    chosen = [next(k for k in range(model.stems) if torch.equal(clean[b, k], example.clean[b])) for b in range(2)]
    with torch.no_grad():
        estimates, features = model.separate(clean.sum(1))
        assert torch.allclose(example.start, estimates[[0, 1], chosen], atol=1e-5)
        x, sigma = clean + 0.1 * normal(*clean.shape, seed=1), torch.tensor([0.1, 0.3])
        for scalings in (edm_scalings, consistency_scalings):
            one = example.denoiser(model.refiner, scalings)(x[[0, 1], chosen], sigma)
            assert torch.allclose(one, model.denoise(x, sigma, features, scalings)[[0, 1], chosen], atol=1e-5)
    kept = refiner_example(model, clean, 1.0, step_generator(0, 0))
    assert torch.equal(kept.start, kept.clean)


def test_a_crop_that_the_unet_cannot_halve_is_refused() -> None:
    model = unet()
    with pytest.raises(ValueError, match="multiples of"):
        refiner_example(model, stems(model)[..., :-1], 0.5, step_generator(0, 0))


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize("build", [separator_stage, diffusion_stage, consistency_stage])
def test_every_stage_teaches_what_it_trains_and_nothing_else(
    make: Callable[[], DicoseModel], build: Callable[..., tuple[Stage, nn.Module]]
) -> None:
    model = make()
    stage, average = build(model, RECIPES[make], lambda weights: {})
    for seed in range(12):  # so that every stem has had its turn
        loss = stage.loss(stems(model, seed), step_generator(0, seed))
        assert loss.isfinite()
        loss.backward()  # type: ignore[no-untyped-call]
    without = [name for name, p in stage.trained.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
    trained = {id(parameter) for parameter in stage.trained.parameters()}
    assert all(p.grad is None for p in [*model.parameters(), *average.parameters()] if id(p) not in trained)


def test_the_target_of_distillation_is_the_average() -> None:
    stage, average = consistency_stage(unet(), unet_slakh(), lambda weights: {})
    batch = stems(unet())
    before = stage.loss(batch, step_generator(0, 0))
    assert stage.loss(batch, step_generator(0, 0)) == before
    for parameter in average.parameters():
        parameter.data.add_(0.01)
    assert stage.loss(batch, step_generator(0, 0)) != before


def run(make: Callable[[], DicoseModel], folder: Path, steps: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Distils a small model; the weights and the target's that it ends with."""
    model = make()
    stage, average = consistency_stage(model, RECIPES[make], lambda weights: {"mean": 0.0})

    def batches_from(step: int) -> Iterator[Tensor]:
        while True:
            yield stems(model, step)
            step += 1

    recipe = OptimiserConfig(name="radam", learning_rate=1e-3, warmup_steps=1, decay_steps=1)
    crop = CropConfig(samples=stems(model).shape[-1])
    config = TrainConfig(stage="consistency", steps=steps, batch_size=2, crop=crop, optimiser=recipe, save_every=2)
    assert train(stage, average, batches_from, Run(folder, config)) == steps
    return stage.trained.state_dict(), average.state_dict()


@pytest.mark.parametrize("make", MODELS)
def test_distillation_goes_on_where_it_was(make: Callable[[], DicoseModel], tmp_path: Path) -> None:
    torch.use_deterministic_algorithms(True)
    whole = run(make, tmp_path / "whole", 4)
    run(make, tmp_path / "parts", 2)
    resumed = run(make, tmp_path / "parts", 4)
    torch.use_deterministic_algorithms(False)
    for there, here in zip(whole, resumed, strict=True):
        assert all(torch.equal(value, here[key]) for key, value in there.items())
    assert any(not torch.equal(value, whole[1][key]) for key, value in whole[0].items())
