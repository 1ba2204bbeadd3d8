"""Promises of the effects: each does what its name says, stems do not touch each other, and none is the default."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from training.data.effects import (
    EffectsConfig,
    StemEffects,
    apply_effects,
    biquad_response,
    bs_roformer_effects,
    equalised,
    pitch_shifted,
    stretched,
    tanh_distorted,
)
from training.data.pool import CropConfig, draw_crop

RATE = 44100


def tone(frequency_hz: float, seconds: float = 1.5) -> Tensor:
    time = torch.arange(round(seconds * RATE)) / RATE
    return torch.sin(2 * math.pi * frequency_hz * time).expand(2, -1)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def peak_hz(x_CL: Tensor) -> float:
    spectrum = torch.fft.rfft(x_CL[0] * torch.hann_window(x_CL.shape[-1])).abs()
    return float(spectrum.argmax()) * RATE / x_CL.shape[-1]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("semitones", [-5, -1, 2, 5])
def test_pitch_moves_and_length_and_level_stay(semitones: float) -> None:
    shifted = pitch_shifted(tone(440), semitones)
    assert shifted.shape == tone(440).shape
    assert peak_hz(shifted) == pytest.approx(440 * 2 ** (semitones / 12), abs=1.0)
    inner = slice(8192, -8192)
    assert float(shifted[:, inner].square().mean()) == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize("rate", [0.8, 1.25])
def test_time_moves_and_pitch_stays(rate: float) -> None:
    faster = stretched(tone(440), rate)
    assert faster.shape[-1] == round(tone(440).shape[-1] / rate)
    assert peak_hz(faster) == pytest.approx(440, abs=1.0)
    assert torch.allclose(stretched(tone(440), 1.0)[:, 4096:-4096], tone(440)[:, 4096:-4096], atol=1e-3)


def test_shelves_and_bells_lift_where_they_should() -> None:
    omega = torch.linspace(0, math.pi, 1001, dtype=torch.float64)
    centre = 0.3
    for side, (low, middle, high) in {0: (0, 6, 0), -1: (6, 3, 0), 1: (0, 3, 6)}.items():
        gain = 20 * torch.log10(biquad_response(omega, centre, 6.0, 0.7, side).abs())
        at = [0, round(centre / math.pi * 1000), 1000]
        assert gain[at].tolist() == pytest.approx([low, middle, high], abs=0.05)


def test_equaliser_stays_within_what_overlapping_bands_add_up_to() -> None:
    impulse = torch.zeros(2, 16384)
    impulse[:, 100] = 1
    response = 20 * torch.log10(torch.fft.rfft(equalised(impulse, (-9, 9), RATE, seeded(1)), 32768).abs() + 1e-9)
    assert float(response.abs().max()) < 25
    assert float(response.std()) > 0.5
    flat = equalised(noise(2, 4096), (0.0, 0.0), RATE, seeded(1))
    assert torch.allclose(flat, noise(2, 4096), atol=1e-6)


def test_distortion_keeps_the_level_and_lowers_the_peaks() -> None:
    x = noise(2, 44100)
    distorted = tanh_distorted(x, 0.6)
    assert float(distorted.square().mean()) == pytest.approx(float(x.square().mean()), rel=1e-4)
    assert distorted.abs().max() < 0.7 * x.abs().max()
    assert torch.equal(tanh_distorted(torch.zeros(2, 100), 0.5), torch.zeros(2, 100))


def test_stems_do_not_touch_each_other() -> None:
    """A silent stem stays silent and changes nothing in the others, so a mixture summed afterwards is exact."""
    config = replace(bs_roformer_effects(), chance=1.0)
    config = replace(config, stems=tuple(replace(one, noise=(0.0, 0.0)) for one in config.stems))
    stems = noise(3, 4, 2, 20000)
    some = stems.clone()
    some[:, 2] = 0
    all_of_them, without = (apply_effects(x, config, seeded(3)) for x in (stems, some))
    assert not without[:, 2].any()
    kept = [0, 1, 3]
    assert torch.equal(all_of_them[:, kept], without[:, kept])
    assert not torch.allclose(all_of_them, stems, atol=0.05)
    assert all_of_them.isfinite().all()


def test_effects_are_drawn_from_the_generator_alone() -> None:
    stems, config = noise(2, 4, 2, 20000), bs_roformer_effects()
    once, again, other = (apply_effects(stems, config, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(once, again)
    assert not torch.equal(once, other)


def test_nothing_is_the_default() -> None:
    stems = noise(1, 4, 1, 1000)
    assert apply_effects(stems, EffectsConfig(), seeded(0)) is stems
    never = replace(bs_roformer_effects(), chance=0.0, loudness=(1, 1), swap_chance=0, reverse_chance=0)
    assert torch.equal(apply_effects(stems, replace(never, polarity_chance=0), seeded(0)), stems)


def test_simple_effects_happen_as_often_as_they_should() -> None:
    """Loudness, polarity, channels and direction can be told apart on a ramp in one channel."""
    ramp = torch.zeros(600, 4, 2, 8)
    ramp[:, :, 0] = torch.arange(1.0, 9.0)
    config = replace(bs_roformer_effects(), chance=0.0)
    changed = apply_effects(ramp, config, seeded(5)).flatten(0, 1)
    swapped = changed[:, 1].abs().sum(-1) > 0
    sounding = torch.where(swapped[:, None], changed[:, 1], changed[:, 0])
    turned = sounding[:, 0].abs() > sounding[:, -1].abs()
    loudness = sounding.abs().max(-1).values / 8
    figures = [swapped.float().mean(), turned.float().mean(), (sounding[:, 0] < 0).float().mean(), loudness.mean()]
    assert torch.stack(figures).tolist() == pytest.approx([0.5, 0.1, 0.5, 1.0], abs=0.04)
    assert 0.5 <= float(loudness.min()) < 0.51
    assert 1.49 < float(loudness.max()) <= 1.5


def test_every_published_range_is_used() -> None:
    """With all chances at one, each stem of a tone ends up elsewhere in pitch, and only where its range allows."""
    config = EffectsConfig(stems=(StemEffects(pitch_semitones=(-2, 2)), StemEffects()), chance=1.0)
    stems = torch.stack([tone(440, 0.5), tone(440, 0.5)])[None].repeat(12, 1, 1, 1)
    changed = apply_effects(stems, config, seeded(0))
    pitches = [12 * math.log2(peak_hz(item[0]) / 440) for item in changed]
    assert min(pitches) < -0.5
    assert max(pitches) > 0.5
    assert min(pitches) > -2.1
    assert max(pitches) < 2.1
    assert torch.equal(changed[:, 1], stems[:, 1])


class Loud:
    """A pool whose stem number k is the constant k + 1, in four songs of eight samples' length or more."""

    stems = ("bass", "drums")
    tracks = tuple(np.stack([np.full((64, 2), 1024 * (stem + 1), np.int16) for stem in range(2)]) for _ in range(4))


def test_mixup_is_the_mean_of_cuts_of_one_class() -> None:
    plain = CropConfig(samples=16, remix=1.0, repitch=0.0, min_active_stems=0)
    mixed = replace(plain, mixup=(1.0, 1.0))
    levels = []
    for seed in range(50):
        crop = draw_crop(Loud(), mixed, np.random.default_rng(seed))  # type: ignore[arg-type]
        assert np.ptp(crop, axis=(1, 2)).max() == 0
        levels.append(crop[:, 0, 0] * 32768 / 1024 / [1, 2])
    assert 0.5 <= np.min(levels) < 0.75
    assert 1.25 < np.max(levels) <= 1.5
    assert np.mean(levels) == pytest.approx(1.0, abs=0.06)
    single = draw_crop(Loud(), plain, np.random.default_rng(0))  # type: ignore[arg-type]
    assert single[:, 0, 0] * 32768 == pytest.approx([1024, 2048])
    mono = draw_crop(Loud(), replace(plain, channels=1), np.random.default_rng(0))  # type: ignore[arg-type]
    assert mono.shape == (2, 1, 16)
