"""Promises of training: data that keeps its sums, losses that mean what they say, runs that resume exactly."""

import copy
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor, nn

from pyserver.diffusion.scalings import consistency_scalings, edm_scalings
from pyserver.models.band_split import BandSplitConfig, BandSplitModel
from pyserver.models.stft import stft
from training.data.augment import AugmentConfig, augment, normalise
from training.data.pool import CropConfig, NoSongs, StemPool, draw_batch
from training.evaluate import mean_scores, score_song
from training.loop import Run, Stage, TrainConfig, step_generator, train
from training.metrics import chunks, is_silent, si_sdr
from training.objectives import (
    RefinerLossConfig,
    SnrLossConfig,
    consistency_loss,
    diffusion_loss,
    refiner_batch,
    separator_loss,
)
from training.optimisers import OptimiserConfig, build_optimiser

STEMS = ("bass", "drums", "guitar")
SMALL = BandSplitConfig(
    stems=3,
    n_fft=512,
    hop_length=256,
    bands=((16, 4), (8, 8), (8, 16), (1, 1)),
    dim=8,
    dilations=(1,),
    kernel=3,
    head_hidden=8,
    refiner_dim=8,
    refiner_dilations=(1,),
    refiner_hidden=8,
)
REGIONS = SnrLossConfig(region_edges=(0, 64, 257))
LENGTH = 8192
QUICK = OptimiserConfig(warmup_steps=1, decay_steps=1)


@pytest.fixture
def songs(tmp_path: Path) -> Path:
    """Three songs in our layout: one without drums, one with a stem that is shorter than the others."""
    rng = np.random.default_rng(0)
    for index in range(3):
        track = tmp_path / "train" / f"Track{index:05d}"
        track.mkdir(parents=True)
        for stem in STEMS:
            if (index, stem) == (1, "drums"):
                continue
            length = 20000 if (index, stem) == (2, "bass") else 44100
            soundfile.write(track / f"{stem}.flac", 0.1 * rng.standard_normal((length, 2)), 44100, "PCM_16")
        (track / "meta.json").write_text("{}")
    return tmp_path / "train"


def spectra(seed: int = 0, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return normalise(stft(torch.randn((batch, 3, 2, LENGTH), generator=generator), SMALL.stft), SMALL.n_fft)


def test_missing_and_short_stems_are_silence(songs: Path) -> None:
    pool = StemPool(songs, STEMS)
    assert [track.shape for track in pool.tracks] == [(3, 44100, 2)] * 3
    assert not pool.tracks[1][1].any()
    assert pool.tracks[2][0, :20000].any()
    assert not pool.tracks[2][0, 20000:].any()


def test_a_pool_takes_in_what_was_rendered_since(songs: Path) -> None:
    pool = StemPool(songs, STEMS)
    (songs / "Track00000").rename(songs / "Track00007")
    pool.refresh()
    assert len(pool.tracks) == 4


def test_a_folder_without_songs_is_named(tmp_path: Path) -> None:
    with pytest.raises(NoSongs, match=str(tmp_path)):
        StemPool(tmp_path, STEMS)


def test_batches_are_a_function_of_seed_and_step(songs: Path) -> None:
    pool, config = StemPool(songs, STEMS), CropConfig(samples=4096, remix=0.5, repitch=0.5)
    first = draw_batch(pool, config, 3, seed=1, step=5)
    assert np.array_equal(first, draw_batch(StemPool(songs, STEMS), config, 3, seed=1, step=5))
    assert not np.array_equal(first, draw_batch(pool, config, 3, seed=1, step=6))
    assert first.shape == (3, 3, 2, 4096)


def test_an_unmixed_crop_is_a_cut_of_one_song(songs: Path) -> None:
    pool = StemPool(songs, STEMS)
    crop = draw_batch(pool, CropConfig(samples=4096, remix=0.0), 1, seed=3, step=0)[0]
    whole = [track.transpose(0, 2, 1).astype(np.float32) / 32768 for track in pool.tracks]
    windows = [np.lib.stride_tricks.sliding_window_view(song[2, 0], 4096) for song in whole]
    (song, start), *others = [
        (song, start)
        for song, found in enumerate(windows)
        for start in np.flatnonzero(np.isclose(found[:, 0], crop[2, 0, 0]) & np.isclose(found[:, 9], crop[2, 0, 9]))
        if np.allclose(found[start], crop[2, 0])
    ]
    assert not others
    assert np.allclose(whole[song][:, :, start : start + 4096], crop)


def test_augmentation_is_linear_in_every_stem() -> None:
    stems = spectra()
    once = augment(stems, AugmentConfig(), torch.Generator().manual_seed(4))
    twice = augment(stems * 2, AugmentConfig(), torch.Generator().manual_seed(4))
    assert torch.allclose(twice, once * 2)
    assert not torch.allclose(once, stems)


def test_normalised_mixtures_have_the_waveform_level_one() -> None:
    noise = torch.randn((4, 3, 2, 65536), generator=torch.Generator().manual_seed(0)) * 0.01
    scaled = normalise(stft(noise, SMALL.stft), SMALL.n_fft)
    ratio = (scaled / stft(noise, SMALL.stft)).abs().mean((1, 2, 3, 4))
    assert torch.allclose(ratio * noise.sum(1).square().mean((1, 2)).sqrt(), torch.ones(4), atol=0.02)


def test_perfect_shares_lose_least() -> None:
    """Two stems in different bins: the mask that knows which is which against equal shares and against swapped ones."""
    low, high = torch.zeros(1, 1, 2, 257, 9, dtype=torch.cfloat), torch.zeros(1, 1, 2, 257, 9, dtype=torch.cfloat)
    low[..., :100, :], high[..., 100:, :] = 3, 2
    stems = torch.cat([low, high], dim=1)
    perfect = (stems.abs() > 0).float()
    losses = [separator_loss(mask, stems, REGIONS) for mask in (perfect, torch.full_like(perfect, 0.5), 1 - perfect)]
    assert losses[0] < losses[1] < losses[2]
    expected = 10 * math.log10(0.5**2 * 2)  # each stem keeps half its amplitude and hears half of the other's
    equal = separator_loss(torch.full_like(perfect, 0.5), stems, replace(REGIONS, region_weight=0.0, floor=0.0))
    power = [float(stem.abs().square().sum()) for stem in (low, high)]
    by_hand = np.mean([10 * math.log10(0.25 * sum(power) / own) for own in power])
    assert float(equal) == pytest.approx(by_hand, abs=1e-3)
    assert by_hand == pytest.approx(expected, abs=1.0)


def test_silent_stems_pay_for_what_they_are_given() -> None:
    stems = spectra()
    stems[:, 2] = 0
    nothing, third = torch.zeros(2, 3, 2, 257, 33), torch.full((2, 3, 2, 257, 33), 1 / 3)
    nothing[:, :2] = third[:, :2] = 0.5
    assert separator_loss(nothing, stems, REGIONS) < separator_loss(third, stems, REGIONS)


def test_shares_sum_to_one_and_consistency_keeps_what_has_no_noise() -> None:
    model, stems = BandSplitModel(SMALL), spectra()
    shares, features = model.separate_spectrum(stems.sum(1))
    assert torch.allclose(shares.sum(1), torch.ones(2, 2, 257, 33), atol=1e-5)
    sigma = torch.full((2,), SMALL.sigma_min)
    kept = model.denoise_spectrum(stems, sigma, (stems.sum(1), shares, features), consistency_scalings)
    assert torch.allclose(kept, stems, atol=1e-4)


def test_an_untrained_refiner_gives_the_separators_stems() -> None:
    model, stems = BandSplitModel(SMALL), spectra()
    mixture = stems.sum(1)
    shares, features = model.separate_spectrum(mixture)
    separated = shares * mixture[:, None]
    refined = model.denoise_spectrum(separated, torch.full((2,), 0.1), (mixture, shares, features), edm_scalings)
    error = (refined - separated).abs().square().mean() / separated.abs().square().mean()
    assert 0 < error < 1e-2
    assert torch.allclose(refined.sum(1), mixture, atol=1e-3)


def test_refiner_losses_reach_every_weight() -> None:
    torch.manual_seed(0)
    model, config, stems = BandSplitModel(SMALL), RefinerLossConfig(), spectra()
    teacher, target = copy.deepcopy(model), copy.deepcopy(model)
    batch = refiner_batch(model, stems, LENGTH, config, step_generator(0, 0))
    grid = torch.tensor([1.0, 0.5, 0.2, 0.1, 0.02, SMALL.sigma_min])
    losses = (
        diffusion_loss(model, batch, LENGTH, config, step_generator(0, 1)),
        consistency_loss(model, target, teacher, batch, grid, LENGTH, config, step_generator(0, 2)),
    )
    for loss in losses:
        model.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        assert loss.isfinite()
        assert all(weight.grad is not None and weight.grad.any() for weight in model.refiner.parameters())
        assert all(weight.grad is None for weight in (*teacher.parameters(), *target.parameters()))


def test_the_diffusion_loss_is_measured_by_the_separators_error() -> None:
    model, stems = BandSplitModel(SMALL), spectra()
    batch = refiner_batch(model, stems, LENGTH, RefinerLossConfig(clean_chance=0.0), step_generator(0, 0))
    assert not torch.equal(batch.start, stems)
    model.denoise_spectrum = lambda x, sigma, features, scalings: stems  # type: ignore[method-assign]
    config = RefinerLossConfig()
    perfect = diffusion_loss(model, batch, LENGTH, config, step_generator(0, 1))
    lowest = -((batch.separator_error + config.error_floor) / config.error_floor).log().mean()
    assert torch.isclose(perfect, lowest)
    model.denoise_spectrum = lambda x, sigma, features, scalings: batch.start  # type: ignore[method-assign]
    assert diffusion_loss(model, batch, LENGTH, config, step_generator(0, 1)) == pytest.approx(0, abs=1e-6)
    assert edm_scalings(torch.tensor([0.1]), 0.4).skip.item() == pytest.approx(0.16 / 0.17)


def small_run(folder: Path, steps: int, recipe: OptimiserConfig = QUICK) -> dict[str, Tensor]:
    """Trains the small separator on one fixed set of crops."""
    torch.manual_seed(0)
    model = BandSplitModel(SMALL)
    average = copy.deepcopy(model.separator)

    def loss(batch: Tensor, generator: torch.Generator) -> Tensor:
        stems = normalise(augment(batch, AugmentConfig(), generator), SMALL.n_fft)
        return separator_loss(model.separate_spectrum(stems.sum(1))[0], stems, REGIONS)

    def batches_from(step: int) -> Iterator[Tensor]:
        while True:
            yield spectra(seed=step)
            step += 1

    config = TrainConfig(
        stage="separator", steps=steps, batch_size=2, crop=CropConfig(samples=LENGTH), optimiser=recipe
    )
    stage = Stage(trained=model.separator, loss=loss, validate=lambda average: {"mean": 0.0})
    assert train(stage, average, batches_from, Run(folder, config)) == steps
    return model.separator.state_dict()


@pytest.mark.parametrize("name", ["adamw", "radam", "muon"])
def test_two_steps_and_two_more_are_four_steps(tmp_path: Path, name: str) -> None:
    recipe = replace(QUICK, name=name)
    torch.use_deterministic_algorithms(True)
    whole = small_run(tmp_path / "whole", 4, recipe)
    small_run(tmp_path / "parts", 2, recipe)
    resumed = small_run(tmp_path / "parts", 4, recipe)
    torch.use_deterministic_algorithms(False)
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())
    rows = [json.loads(line) for line in (tmp_path / "parts" / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1] == {"step": 4, "validation": {"mean": 0.0}}


def test_muon_turns_the_matrices_of_linear_layers_and_leaves_the_rest_to_adamw() -> None:
    """A step of Muon moves a matrix by an orthogonal one: all its singular values are near the rate."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(8, 4), nn.LayerNorm(4), nn.Embedding(3, 4))
    before = {name: value.clone() for name, value in network.named_parameters()}
    optimiser = build_optimiser(network, OptimiserConfig(name="muon", learning_rate=0.1, weight_decay=0.0))
    optimiser.set_rate(0.5)
    for value in network.parameters():
        value.grad = torch.randn_like(value)
    optimiser.step()
    moved = {name: value - before[name] for name, value in network.named_parameters()}
    singular = torch.linalg.svdvals(moved["0.weight"])
    assert ((singular > 0.5 * 0.5) & (singular < 1.5 * 0.5)).all()
    for name in ("0.bias", "1.weight", "1.bias", "2.weight"):  # Adam's first step has the size of its rate
        assert moved[name].abs().allclose(torch.full_like(moved[name], 0.05), rtol=1e-3)


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    torch.manual_seed(0)
    before = BandSplitModel(SMALL)
    after = BandSplitModel(SMALL)
    after.separator.load_state_dict(small_run(tmp_path, 30))
    stems = spectra(seed=1000, batch=8)
    losses = [separator_loss(model.separate_spectrum(stems.sum(1))[0], stems, REGIONS) for model in (before, after)]
    assert losses[1] < losses[0]


def test_si_sdr_of_known_errors() -> None:
    rng = np.random.default_rng(0)
    target = rng.standard_normal(100000)
    error = rng.standard_normal(100000)
    error -= (error @ target) / (target @ target) * target
    error *= np.linalg.norm(target) / np.linalg.norm(error)
    assert si_sdr(target + 0.1 * error, target) == pytest.approx(20, abs=1e-6)
    assert si_sdr(7 * (target + 0.1 * error), target) == pytest.approx(20, abs=1e-6)
    assert si_sdr(target + error, target) == pytest.approx(0, abs=1e-6)


def test_chunks_and_silence_follow_the_protocol() -> None:
    rate = 100
    assert [(part.start, part.stop) for part in chunks(1000, rate)] == [(0, 400), (200, 600), (400, 800), (600, 1000)]
    assert [(part.start, part.stop) for part in chunks(900, rate)][-1] == (600, 900)
    quiet = np.full(1000, 1.5e-5 * math.sqrt(1000))
    assert is_silent(quiet * 0.99)
    assert not is_silent(quiet * 1.01)


def test_silent_targets_and_lonely_stems_do_not_count() -> None:
    rng = np.random.default_rng(0)
    stems = rng.standard_normal((3, 2, 44100 * 10)).astype(np.float32)
    stems[2] = 0  # never sounds
    stems[1, :, : 44100 * 6] = 0  # leaves the first two chunks to stem 0 alone
    estimates = stems + 0.1 * rng.standard_normal(stems.shape).astype(np.float32)
    scores = score_song(stems, estimates, STEMS)
    assert len(scores["bass"]) == len(scores["drums"]) == 2
    assert scores["guitar"] == []
    # 20 dB, less 3 dB of the mixture where the other stem sounds half the time
    assert scores["bass"] == pytest.approx([17.0, 20.0], abs=0.2)
    assert math.isnan(mean_scores([scores], STEMS)["guitar"])
