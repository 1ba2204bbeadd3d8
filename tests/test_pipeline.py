"""Promises of the pipeline: what one window gives, whatever its level, rate, channels and company."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pyserver.audio.channels import channel_groups
from pyserver.audio.highband import share_high_band
from pyserver.audio.resample import resample_to
from pyserver.engine.messages import Audio, SeparationSettings, WindowRequest
from pyserver.engine.pipeline import Pipeline
from pyserver.models import catalogue, registry
from pyserver.models.interface import Features, SeparationModel


@pytest.fixture(scope="module")
def pipeline(tiny_model_dir: Path) -> Pipeline:
    from safetensors.torch import load_file

    from pyserver.models.card import ModelCard

    card = ModelCard.load(tiny_model_dir / "stemline-small" / "card.json")
    model = registry.build(card.architecture, card.config)
    model.load_state_dict(load_file(tiny_model_dir / "stemline-small" / card.weights[0]))
    return Pipeline(model, card, torch.device("cpu"))


def music(channels: int, samples: int, seed: int = 0) -> Audio:
    """Coloured noise with a moving level: energy everywhere, as in a mix."""
    rng = np.random.default_rng(seed)
    white = rng.standard_normal((channels, samples + 32)).astype(np.float32)
    coloured = white[:, 32:] + np.cumsum(white, axis=1)[:, 32:] * 0.05
    return (coloured * 0.05 * (1.2 + np.sin(np.arange(samples) / 3000))).astype(np.float32)


def request(audio: Audio, *, rate: int = 44100, position: int = 0, steps: int = 1, seed: int = 0) -> WindowRequest:
    return WindowRequest("m", audio, rate, position, (0, audio.shape[1]), SeparationSettings(steps, seed))


def test_same_request_gives_the_same_bits(pipeline: Pipeline) -> None:
    one = request(music(2, 24576), position=1234, seed=7)
    first = pipeline.run(one).stems_SCN
    pipeline.run(request(music(2, 24576, seed=3), position=99))
    assert np.array_equal(first, pipeline.run(one).stems_SCN)


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_windows_that_share_a_batch_have_the_stems_they_have_alone(pipeline: Pipeline, channels: int) -> None:
    apart = [
        request(music(channels, 24576, seed=1), position=1234, seed=7),
        request(music(channels, 24576, seed=2) * np.float32(0.01), position=-5, seed=8),
        request(np.zeros((channels, 24576), np.float32)),
        replace(request(music(channels, 24576, seed=3), position=1234, seed=7), keep=(100, 200)),
    ]
    for one, found in zip(apart, pipeline.run_together(apart), strict=True):
        alone = pipeline.run(one).stems_SCN
        assert found.stems_SCN.shape == alone.shape
        assert np.abs(found.stems_SCN - alone).max() <= 1e-5 * np.abs(one.audio_CN).max()


def test_noise_follows_seed_and_position(pipeline: Pipeline) -> None:
    audio = music(2, 24576)
    at_zero = pipeline.run(request(audio)).stems_SCN
    assert not np.array_equal(at_zero, pipeline.run(request(audio, position=1)).stems_SCN)
    assert not np.array_equal(at_zero, pipeline.run(request(audio, seed=1)).stems_SCN)
    without = [pipeline.run(request(audio, position=p, steps=0)).stems_SCN for p in (0, 1)]
    assert np.array_equal(*without)


def test_thirty_decibels_down_gives_the_same_stems_thirty_decibels_down(pipeline: Pipeline) -> None:
    audio, quiet = music(2, 24576), np.float32(10 ** (-30 / 20))
    loud_stems = pipeline.run(request(audio)).stems_SCN
    quiet_stems = pipeline.run(request(audio * quiet)).stems_SCN
    assert np.abs(quiet_stems / quiet - loud_stems).max() < 1e-5 * np.abs(loud_stems).max() * 10


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000, 96000, 192000])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_stems_sum_to_the_mixture(pipeline: Pipeline, rate: int, channels: int) -> None:
    samples = round(24576 * rate / 44100)
    audio = music(channels, samples)
    stems = pipeline.run(request(audio, rate=rate)).stems_SCN
    assert stems.shape == (5, channels, samples)
    assert np.abs(audio - stems.sum(0)).max() < 2e-5 * np.abs(audio).max()  # the rest goes to the residual


def test_silence_gives_silence(pipeline: Pipeline) -> None:
    stems = pipeline.run(request(np.zeros((2, 24576), np.float32))).stems_SCN
    assert np.array_equal(stems, np.zeros_like(stems))


def test_a_silent_pair_leaves_the_others_alone(pipeline: Pipeline) -> None:
    surround = np.concatenate([music(2, 24576), np.zeros((4, 24576), np.float32)])
    alone = pipeline.run(request(surround[:2])).stems_SCN
    assert np.abs(pipeline.run(request(surround)).stems_SCN[:, :2] - alone).max() < 1e-6


def test_channel_groups_cover_every_channel_once() -> None:
    for channels in range(1, 17):
        for width in (1, 2):
            found = [channel for group in channel_groups(channels, width) for channel in group]
            assert sorted(found) == list(range(channels))


def test_keep_is_a_part_of_the_whole(pipeline: Pipeline) -> None:
    whole = request(music(2, 24576))
    part = replace(whole, keep=(3000, 4000))
    assert np.array_equal(pipeline.run(part).stems_SCN, pipeline.run(whole).stems_SCN[..., 3000:4000])


class HalfAndHalf(SeparationModel):
    """Two stems, each half of what it hears: makes everything but the pipeline trivial."""

    stems, has_refiner = 2, False

    def separate(self, mixture_BCL: torch.Tensor) -> tuple[torch.Tensor, Features]:
        return torch.stack([mixture_BCL / 2, mixture_BCL / 2], dim=1), ()

    def denoise(
        self, x_BSCL: torch.Tensor, sigma_B: torch.Tensor, features: Features, scalings: object
    ) -> torch.Tensor:
        raise AssertionError("has no refiner")


class Cramped(HalfAndHalf):
    """Runs out of memory for more than so many items at once, and notes what it was asked for."""

    def __init__(self, room: int, error: type[Exception]) -> None:
        super().__init__()
        self.room, self.error = room, error
        self.asked: list[int] = []

    def separate(self, mixture_BCL: torch.Tensor) -> tuple[torch.Tensor, Features]:
        self.asked.append(len(mixture_BCL))
        if len(mixture_BCL) > self.room:
            raise self.error("CUDA out of memory")
        return super().separate(mixture_BCL)


def mono_pipeline(model: SeparationModel, tiny_model_dir: Path) -> Pipeline:
    card = catalogue.ModelCard.load(tiny_model_dir / "stemline-small" / "card.json")
    return Pipeline(model, replace(card, stems=("a", "b"), channels=1, refiner=None), torch.device("cpu"))


@pytest.mark.parametrize("error", [MemoryError, torch.OutOfMemoryError])
def test_what_does_not_fit_into_memory_is_halved_and_tried_no_larger_again(
    tiny_model_dir: Path, caplog: pytest.LogCaptureFixture, error: type[Exception]
) -> None:
    model = Cramped(2, error)
    pipeline = mono_pipeline(model, tiny_model_dir)
    windows = [request(music(1, 8192, seed=seed)) for seed in range(5)]
    for asked in ([5, 2, 2, 1], [2, 2, 1]):
        model.asked.clear()
        for one, found in zip(windows, pipeline.run_together(windows), strict=True):
            assert np.allclose(found.stems_SCN.sum(0), one.audio_CN, atol=1e-5)
        assert model.asked == asked
    surround = request(music(6, 8192))
    assert np.allclose(pipeline.run(surround).stems_SCN.sum(0), surround.audio_CN, atol=1e-5)
    assert model.asked[3:] == [2, 2, 2]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "from now on 2" in caplog.text
    pipeline.run_together([request(music(1, 4096)), request(music(1, 4096))])
    assert model.asked[-1] == 2, "windows of another length have a limit of their own"


def test_a_single_window_that_does_not_fit_is_an_error(tiny_model_dir: Path) -> None:
    model = Cramped(0, torch.OutOfMemoryError)
    with pytest.raises(torch.OutOfMemoryError):
        mono_pipeline(model, tiny_model_dir).run(request(music(6, 8192)))
    assert model.asked == [6, 3, 1]


def test_no_other_error_is_met_with_smaller_batches(tiny_model_dir: Path) -> None:
    model = Cramped(0, ZeroDivisionError)
    with pytest.raises(ZeroDivisionError):
        mono_pipeline(model, tiny_model_dir).run(request(music(6, 8192)))
    assert model.asked == [6]


def test_a_22_khz_model_gives_full_band_stems(tiny_model_dir: Path) -> None:
    card = replace(
        catalogue.ModelCard.load(tiny_model_dir / "stemline-small" / "card.json"),
        stems=("a", "b"),
        sample_rate_hz=22050,
        channels=1,
        refiner=None,
    )
    audio = music(2, 49152)
    stems = Pipeline(HalfAndHalf(), card, torch.device("cpu")).run(request(audio)).stems_SCN
    inside = slice(4096, -4096)
    bins = np.abs(np.fft.rfft(stems[0, 0, inside])) / np.abs(np.fft.rfft(audio[0, inside]))
    above = bins[round(len(bins) * 12 / 22.05) : round(len(bins) * 20 / 22.05)]
    assert np.median(above) == pytest.approx(0.5, abs=0.05)
    assert np.abs(audio - stems.sum(0))[:, inside].max() < 0.02 * np.abs(audio).max()


def test_high_band_shares_follow_the_frames() -> None:
    high = np.ones((1, 4096), np.float32)
    shares = np.array([[0.25] * 5, [0.75] * 5], np.float32)
    shared = share_high_band(high, shares, 2048)
    assert np.allclose(shared[:, 0].T, [0.25, 0.75])


def test_resampling_keeps_the_place_of_an_impulse() -> None:
    audio = np.zeros((1, 48000), np.float32)
    audio[0, 24000] = 1
    down = resample_to(audio, 48000, 22050, 22050)
    assert int(np.abs(down).argmax()) == 11025
    assert resample_to(down, 22050, 48000, 48000).shape == audio.shape
