"""Promises of Diff-VS: its transform, its preconditioning, its network, its sampling and its place in the pipeline."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from pyserver.diffusion import samplers, schedules
from pyserver.diffusion.cost import network_evaluations
from pyserver.diffusion.noise import normal_stream
from pyserver.diffusion.scalings import consistency_scalings, edm_scalings
from pyserver.engine.messages import Audio, SeparationSettings, WindowRequest
from pyserver.engine.pipeline import Pipeline
from pyserver.models import registry
from pyserver.models.card import ModelCard, RefinerSettings
from pyserver.models.diff_vs import (
    STEMS,
    DiffVSModel,
    amplitude_transform,
    complex_spectrum,
    inverse_amplitude_transform,
    real_values,
)
from pyserver.models.diff_vs_network import DiffVSConfig, DiffVSNetwork, ResidualBlock
from pyserver.models.interface import GenerativeModel

TINY = DiffVSConfig(
    n_fft=512,
    hop_length=128,
    bands=((4, 8), (2, 32), (1, 64), (1, 97)),
    dim=16,
    multipliers=(1, 1),
    blocks=1,
    attention_levels=(1,),
    dim_head=8,
    dropout=0.0,
    head_hidden=16,
)
RATE_HZ, LENGTH = 44100, 16384


def awake(model: nn.Module, seed: int = 0) -> None:
    """An untrained network is silent by construction; this gives every weight something to say."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.copy_(torch.randn(weight.shape, generator=generator) * (0.7 / math.sqrt(weight[0].numel())))


@pytest.fixture(scope="module")
def model() -> DiffVSModel:
    found = DiffVSModel(TINY).eval()
    awake(found.generator)
    statistics = found.generator.statistics
    statistics.get_buffer("mixture_rms_K").copy_(torch.linspace(1.5, 0.2, 8))
    statistics.get_buffer("vocals_rms_K").copy_(torch.linspace(0.7, 0.1, 8))
    return found


def music(channels: int = 2, samples: int = LENGTH, seed: int = 0) -> Audio:
    white = np.random.default_rng(seed).standard_normal((channels, samples + 32)).astype(np.float32)
    return (white[:, 32:] + np.cumsum(white, axis=1)[:, 32:] * 0.05) * np.float32(0.05)


# The domain


@given(st.floats(-30, 30), st.floats(-math.pi, math.pi), st.floats(0.1, 1), st.floats(0.01, 3))
def test_the_amplitude_transform_is_its_formula_and_its_inverse_undoes_it(
    log_magnitude: float, phase: float, alpha: float, beta: float
) -> None:
    c = complex(math.exp(log_magnitude) * np.exp(1j * phase))
    found = amplitude_transform(torch.tensor([c], dtype=torch.complex128), alpha, beta)
    assert found.item() == pytest.approx(beta * abs(c) ** alpha * np.exp(1j * phase), rel=1e-12)
    assert inverse_amplitude_transform(found, alpha, beta).item() == pytest.approx(c, rel=1e-12)


def test_silence_stays_silence_and_has_no_phase_to_lose() -> None:
    zero = torch.zeros(3, dtype=torch.complex64)
    assert not amplitude_transform(zero, 0.5, 0.15).any()
    assert not inverse_amplitude_transform(zero, 0.5, 0.15).any()


def test_real_and_imaginary_parts_of_all_channels_are_the_values_of_a_bin() -> None:
    spectrum = torch.randn(2, 2, 5, 3, dtype=torch.complex64)
    values = real_values(spectrum)
    assert values.shape == (2, 3, 5, 4)
    one = spectrum[1, :, 4, 2]
    assert values[1, 2, 4].tolist() == [one[0].real, one[0].imag, one[1].real, one[1].imag]
    assert torch.equal(complex_spectrum(values), spectrum)


@pytest.mark.parametrize("samples", [LENGTH, 12345])
def test_decoding_undoes_encoding(model: DiffVSModel, samples: int) -> None:
    vocals = torch.from_numpy(music(samples=samples))[None]
    x = model.encode(vocals)
    assert x.shape == (1, *model.noise_shape(samples))
    assert (model.decode(x, samples) - vocals).abs().max() < 1e-6


def test_bands_are_divided_by_their_rms_over_the_training_set() -> None:
    model, generator = DiffVSModel(TINY), torch.Generator().manual_seed(3)
    songs = [torch.from_numpy(music(seed=seed))[None] * 10.0**-seed for seed in range(3)]
    vocals = [song * 0.3 + 0.01 * torch.randn(song.shape, generator=generator) for song in songs]
    model.generator.statistics.measure(
        (model.transformed(song), model.transformed(voice)) for song, voice in zip(songs, vocals, strict=True)
    )
    for encode, audio, wanted in ((model.normalised_mixture, songs, 1.0), (model.encode, vocals, TINY.sigma_data)):
        values = np.concatenate([encode(one).numpy()[0] for one in audio])
        edges = np.cumsum([0, 8, 8, 8, 8, 32, 32, 64, 97])
        for low, high in itertools.pairwise(edges):
            assert np.sqrt(np.mean(values[:, low:high].astype(np.float64) ** 2)) == pytest.approx(wanted, rel=1e-4)


def test_bands_without_a_sound_are_left_alone() -> None:
    model = DiffVSModel(TINY)
    silent = torch.zeros(1, *model.noise_shape(LENGTH))
    model.generator.statistics.measure([(silent, silent)])
    assert torch.equal(model.generator.statistics.get_buffer("vocals_rms_K"), torch.ones(8))


# The network


def test_the_denoiser_is_edms_preconditioning_of_the_network(model: DiffVSModel) -> None:
    """Against the formulas of Karras et al. 2022, table 1, in numpy."""
    x = torch.randn(2, *model.noise_shape(LENGTH), generator=torch.Generator().manual_seed(1))
    _, features = model.begin(torch.from_numpy(np.stack([music(), music(seed=1)])))
    sigma = np.array([0.01, 30.0])
    with torch.no_grad():
        found = model.denoise(x, torch.from_numpy(sigma).float(), features, edm_scalings).numpy()
        c_in = 1 / np.sqrt(sigma**2 + 0.25)
        scaled = torch.from_numpy(c_in[:, None, None, None]).float() * x
        raw = model.generator.network(scaled, torch.from_numpy(np.log(sigma) / 4).float(), features[0]).numpy()
    c_skip, c_out = 0.25 / (sigma**2 + 0.25), sigma * 0.5 / np.sqrt(sigma**2 + 0.25)
    for item in range(2):
        assert np.abs(found[item] - (c_skip[item] * x[item].numpy() + c_out[item] * raw[item])).max() < 2e-5


def test_an_untrained_network_says_nothing() -> None:
    network = DiffVSNetwork(TINY).eval()
    x = torch.randn(1, 9, 257, 4)
    assert not network(x, torch.zeros(1), x).any()


def test_no_block_touches_time_and_odd_numbers_of_frames_work(model: DiffVSModel) -> None:
    seen: list[tuple[int, int]] = []
    blocks = [block for block in model.generator.modules() if isinstance(block, ResidualBlock)]
    hooks = [block.register_forward_hook(lambda _m, _i, out: seen.append(tuple(out.shape[2:]))) for block in blocks]
    try:
        for frames in (1, 2, 7, 33):
            seen.clear()
            x = torch.randn(1, frames, 257, 4)
            with torch.no_grad():
                assert model.generator.network(x, torch.zeros(1), x).shape == x.shape
            assert len(seen) == len(blocks)
            assert {size[0] for size in seen} == {frames}
            assert {size[1] for size in seen} == {8, 4}  # bands are halved
    finally:
        for hook in hooks:
            hook.remove()


def test_every_frame_hears_every_other_and_the_noise_level(model: DiffVSModel) -> None:
    x = torch.randn(1, 21, 257, 4, generator=torch.Generator().manual_seed(0))
    other = x.clone()
    other[:, 0] += 1
    with torch.no_grad():
        one = model.generator.network(x, torch.zeros(1), x)
        assert (model.generator.network(x, torch.zeros(1), other) - one)[:, -1].abs().max() > 1e-5 * one.abs().max()
        assert (model.generator.network(x, torch.ones(1), x) - one).abs().max() > 1e-4


def test_full_size_has_57_million_parameters() -> None:
    with torch.device("meta"):
        network = DiffVSNetwork(DiffVSConfig())
    assert sum(value.numel() for value in network.parameters() if value.requires_grad) == 57_370_052


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"bands": ((4, 8),)}, "cover 32 bins, n_fft 512 has 257"),
        ({"multipliers": (1, 1, 1, 1, 1)}, "8 bands cannot be halved 4 times"),
        ({"attention_levels": (2,)}, "attention at levels"),
        ({"dim_head": 12}, "heads of 12 features"),
        ({"dim": 12}, "multiple of 8"),
        ({"channels": 3}, "mono or stereo"),
        ({"alpha": 0.0}, "amplitude transform"),
        ({"sigma_min": 90.0}, "sigma_min"),
    ],
)
def test_impossible_configurations_say_why(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        replace(TINY, **wrong)


def test_a_configuration_survives_its_card() -> None:
    from dataclasses import asdict
    from json import dumps, loads

    assert DiffVSConfig.from_mapping(loads(dumps(asdict(TINY)))) == TINY


# Sampling

MEAN, SPREAD, SIGMA_MAX = 0.4, 0.3, 20.0


def conditional_gaussian(x: Tensor, sigma_B: Tensor) -> Tensor:
    """The exact denoiser of data from N(MEAN, SPREAD²)."""
    s2 = sigma_B.square().reshape(-1, 1)
    return (SPREAD**2 * x + s2 * MEAN) / (SPREAD**2 + s2)


def flow_error(kind: str, steps: int) -> float:
    """Largest distance from where the exact probability flow ends."""
    sigmas = schedules.diffusion_schedule(steps, 2e-3, SIGMA_MAX, 5.0).double()
    z = torch.tensor([[1.0, -2.0, 0.5]], dtype=torch.float64)
    sample = samplers.heun if kind == "heun" else samplers.edm_stochastic
    found = sample(conditional_gaussian, torch.zeros_like(z), sigmas, itertools.cycle([z]))
    exact = MEAN + (SIGMA_MAX * z - MEAN) * SPREAD / math.hypot(SPREAD, SIGMA_MAX)
    return float((found - exact).abs().max())


def test_heun_is_of_second_order_and_euler_of_first() -> None:
    for kind, low, high in (("edm", 1.7, 2.4), ("heun", 3.3, 5.0)):
        errors = [flow_error(kind, steps) for steps in (40, 80, 160)]
        for coarse, fine in itertools.pairwise(errors):
            assert low < coarse / fine < high
    assert flow_error("heun", 20) < flow_error("edm", 39)  # for the same 39 evaluations


def card_of(model: DiffVSModel, kind: str = "heun", steps: int = 2) -> ModelCard:
    from dataclasses import asdict

    return ModelCard(
        name="diff-vs-tiny", title="", architecture="diff_vs", config=asdict(model.config), stems=STEMS,
        sample_rate_hz=RATE_HZ, channels=2, window_samples=LENGTH, margin_samples=1024, fade_samples=1024,
        live_window_samples=LENGTH, live_lookahead_samples=1024, reference_rms=0.1, complete=True,
        refiner=RefinerSettings(
            kind=kind, default_steps=steps, sigma_max={steps: 80.0}, sigma_min=0.002, rho=7.0
        ),
        licence="", weights=(), sha256={},
    )  # fmt: skip


def separated(
    model: DiffVSModel, audio: Audio, *, kind: str = "heun", steps: int = 2, seed: int = 0, rate: int = RATE_HZ
) -> Audio:
    request = WindowRequest("m", audio, rate, 77, (0, audio.shape[1]), SeparationSettings(steps, seed))
    return Pipeline(model, card_of(model, kind, max(steps, 1)), torch.device("cpu")).run(request).stems_SCN


@pytest.mark.parametrize(
    ("kind", "steps", "cost"), [("heun", 7, 13), ("heun", 1, 1), ("edm", 7, 7), ("edm", 1, 1), ("heun", 0, 1)]
)
def test_sampling_costs_as_many_evaluations_as_it_says(model: DiffVSModel, kind: str, steps: int, cost: int) -> None:
    passes: list[None] = []
    hook = model.generator.network.register_forward_hook(lambda *_: passes.append(None))
    try:
        separated(model, music(), kind=kind, steps=steps)
    finally:
        hook.remove()
    assert len(passes) == cost
    if steps:
        assert network_evaluations(kind, steps) == cost
    assert network_evaluations("edm", 4, corrections=2) == 8


def test_one_step_is_one_look_from_the_highest_level(model: DiffVSModel) -> None:
    audio = music()
    assert np.array_equal(separated(model, audio, steps=1), separated(model, audio, kind="edm", steps=1))
    peak = np.abs(audio).max()
    _, features = model.begin(torch.from_numpy(audio / peak)[None])
    draw = next(normal_stream(0, 77, model.noise_shape(LENGTH)))[None]
    with torch.no_grad():
        estimate = model.denoise(80.0 * draw, torch.tensor([80.0]), features, edm_scalings)
        vocals = model.decode(estimate, LENGTH)[0].numpy() * peak
    assert np.abs(separated(model, audio, steps=1)[0] - vocals).max() < 1e-3 * np.abs(vocals).max()


def test_a_sampler_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no sampler 'huen', only .*heun"):
        RefinerSettings(kind="huen", default_steps=1, sigma_max={1: 1.0}, sigma_min=0.1, rho=7.0)


# In the pipeline


@pytest.mark.parametrize("steps", [0, 2])
@pytest.mark.parametrize(("rate", "channels"), [(44100, 2), (48000, 1), (44100, 6)])
def test_vocals_and_the_rest_sum_to_the_mixture(model: DiffVSModel, steps: int, rate: int, channels: int) -> None:
    audio = music(channels, round(LENGTH * rate / RATE_HZ))
    stems = separated(model, audio, steps=steps, rate=rate)
    assert stems.shape == (2, *audio.shape)
    assert np.abs(stems[0]).max() > 1e-3 * np.abs(audio).max()
    assert np.abs(audio - stems.sum(0)).max() < 2e-5 * max(np.abs(audio).max(), np.abs(stems).max())


def test_silence_gives_silence(model: DiffVSModel) -> None:
    assert not separated(model, np.zeros((2, LENGTH), np.float32)).any()


def test_a_seed_gives_the_same_vocals_again_and_another_seed_others(model: DiffVSModel) -> None:
    audio = music()
    first = separated(model, audio, seed=5)
    assert np.array_equal(first, separated(model, audio, seed=5))
    assert not np.array_equal(first, separated(model, audio, seed=6))
    # without steps there is one estimate, whatever the seed
    assert np.array_equal(separated(model, audio, steps=0, seed=5), separated(model, audio, steps=0, seed=6))


@settings(max_examples=5, deadline=None)
@given(st.floats(-60, 20))
def test_level_does_not_matter(gain_db: float) -> None:
    model = DiffVSModel(TINY).eval()
    awake(model.generator, 1)
    gain = np.float32(10 ** (gain_db / 20))
    loud, changed = separated(model, music()), separated(model, music() * gain)
    assert np.abs(changed / gain - loud).max() < 1e-3 * np.abs(loud).max()


def test_items_of_a_batch_do_not_hear_each_other(model: DiffVSModel) -> None:
    mixtures = torch.from_numpy(np.stack([music(), 0.1 * music(seed=2)]))
    with torch.no_grad():
        together, _ = model.separate(mixtures)
        for item in range(2):
            alone, _ = model.separate(mixtures[item : item + 1])
            assert (together[item] - alone[0]).abs().max() < 1e-4 * alone.abs().max()


def test_the_registry_builds_it_as_a_generative_model_that_takes_other_scalings_too() -> None:
    from dataclasses import asdict

    model = registry.build("diff_vs", asdict(TINY))
    assert isinstance(model, GenerativeModel)
    x, features = model.begin(torch.from_numpy(music())[None])
    x = x + 1
    at_sigma_min = model.denoise(x, torch.tensor([TINY.sigma_min]), features, consistency_scalings)
    assert torch.equal(at_sigma_min, x)  # what a consistency student of it would start from
