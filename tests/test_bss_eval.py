"""Promises of BSS Eval: closed forms, silence, and the same figures as museval's."""

import numpy as np
import pytest
from scipy.signal import lfilter

from training.bss_eval import References, SilentSignal, bss_eval

RATE = 2000
TAPS = 32


def song(seconds: float = 5.05, stems: int = 3, seed: int = 0) -> np.ndarray:
    """Coloured stereo stems of unlike levels."""
    rng = np.random.default_rng(seed)
    white = rng.standard_normal((stems, 2, round(seconds * RATE)))
    return np.stack([(0.1 + 0.1 * index) * lfilter([1], [1, -0.4 * index], stem) for index, stem in enumerate(white)])


def test_a_stem_and_its_noise() -> None:
    """Noise that no reference explains is artefact; a quarter of another stem, at equal levels 12 dB, interference."""
    stems = np.random.default_rng(0).standard_normal((2, 1, 50 * RATE))
    noise = np.random.default_rng(1).standard_normal((1, 50 * RATE))
    scores = References(stems, 4).scores(np.stack([stems[0] + 0.1 * noise, stems[1] + 0.25 * stems[0]]), RATE, RATE)
    medians = [np.median(values, axis=1) for values in (scores.sdr_SK, scores.sir_SK, scores.sar_SK)]
    assert medians[0] == pytest.approx([20, 12.04], abs=0.2)
    assert medians[1][1] == pytest.approx(12.04, abs=0.2)
    assert medians[2][0] == pytest.approx(20, abs=0.2)
    assert medians[1][0] > 40
    assert medians[2][1] > 40


def test_a_filtered_stem_is_spatial_distortion_only() -> None:
    stems = song()
    estimates = stems.copy()
    estimates[0] = lfilter([0.5, 0.3, 0.1], [1], stems[0])
    scores = References(stems, TAPS).scores(estimates, RATE, RATE)
    assert np.all(scores.sdr_SK[0] < 10)
    assert np.allclose(scores.sdr_SK[0], scores.isr_SK[0], atol=0.5)
    assert np.all(scores.sir_SK[0] > 15)


def test_windows_in_which_anything_is_silent_have_no_figures() -> None:
    stems = song()
    stems[1, :, 2 * RATE : 3 * RATE] = 0
    scores = References(stems, TAPS).scores(stems + 0.1 * song(seed=1), RATE, RATE)
    assert scores.sdr_SK.shape == (3, 5)
    assert np.isnan(scores.sdr_SK[:, 2]).all()
    assert np.isfinite(np.delete(scores.sdr_SK, 2, axis=1)).all()


def test_silence_and_unequal_shapes_are_refused() -> None:
    stems = song(2)
    silent = stems.copy()
    silent[2] = 0
    with pytest.raises(SilentSignal, match="reference 2"):
        References(silent, TAPS)
    with pytest.raises(SilentSignal, match="estimate 2"):
        References(stems, TAPS).scores(silent, RATE, RATE)
    with pytest.raises(ValueError, match="references are"):
        References(stems, TAPS).scores(stems[..., 1:], RATE, RATE)


def test_mono_songs_have_figures() -> None:
    """Equal channels make the projection's equations singular."""
    stems = song(3)[:, :1].repeat(2, axis=1)
    noise = song(3, seed=1)[:, :1].repeat(2, axis=1)
    stereo = References(stems, TAPS).scores(stems + 0.1 * noise, RATE, RATE)
    mono = References(stems[:, :1], TAPS).scores((stems + 0.1 * noise)[:, :1], RATE, RATE)
    for key in ("sdr_SK", "isr_SK", "sir_SK", "sar_SK"):
        assert np.allclose(getattr(stereo, key), getattr(mono, key), atol=1e-3), key


@pytest.mark.parametrize("hop", [RATE, RATE // 2])
def test_it_agrees_with_museval(hop: int) -> None:
    try:
        from museval.metrics import bss_eval as museval
    except (ImportError, RuntimeError) as missing:  # RuntimeError: museval's own check for ffmpeg
        pytest.skip(f"museval is not to be had: {missing}")
    stems = song(2.55)
    stems[1, :, RATE : 2 * RATE] = 0
    estimates = stems + 0.2 * np.roll(stems, 1, axis=0) + 0.05 * song(2.55, seed=1)
    ours = bss_eval(stems, estimates, RATE, hop)
    moved = (np.moveaxis(signals, 1, 2) for signals in (stems, estimates))
    theirs = museval(*moved, window=RATE, hop=hop)[:4]
    for own, other in zip((ours.sdr_SK, ours.isr_SK, ours.sir_SK, ours.sar_SK), theirs, strict=True):
        assert np.array_equal(np.isnan(own), np.isnan(other))
        assert np.nanmax(np.abs(own - other)) < 1e-6
