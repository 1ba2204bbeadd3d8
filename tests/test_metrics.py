"""Promises of the metrics: closed forms, and what must not change them."""

import math

import numpy as np
import pytest

from training.metrics import (
    EPSILON,
    REFINER_METRICS,
    is_silent,
    mean_over_stems,
    msdm_scores,
    refiner_scores,
    rms_db,
    sdr,
    si_sdr,
    si_snr,
    silent_frame_scores,
)

RATE = 500


def song(seconds: int, *, stems: int = 3, channels: int = 1, seed: int = 0) -> np.ndarray:
    return 0.3 * np.random.default_rng(seed).standard_normal((stems, channels, seconds * RATE))


def test_sdr_is_the_power_ratio_and_is_finite_for_silence() -> None:
    reference = np.full(1000, 0.1)
    assert sdr(1.1 * reference, reference) == pytest.approx(20, abs=1e-3)
    assert sdr(np.zeros(1000), reference) == pytest.approx(0, abs=1e-9)
    assert sdr(reference, np.zeros(1000)) == pytest.approx(10 * math.log10(1e-5 / (10 + 1e-5)))


def test_si_snr_ignores_an_offset_and_si_sdr_does_not() -> None:
    reference, noise = song(4)[0, 0], song(4, seed=1)[0, 0]
    estimate = reference + 0.1 * noise
    assert si_snr(estimate + 0.5, reference) == pytest.approx(si_snr(estimate, reference), abs=1e-6)
    assert si_sdr(estimate + 0.5, reference) < si_sdr(estimate, reference) - 10


def test_level_and_silence() -> None:
    assert rms_db(np.full((2, 100), 0.1)) == pytest.approx(-20)
    assert rms_db(np.zeros(100)) == pytest.approx(-200)
    edge = 1.5e-5 * math.sqrt(900)
    assert is_silent(np.full(900, 0.99 * edge))
    assert not is_silent(np.full(900, 1.01 * edge))
    assert not is_silent(np.full((2, 900), 0.99 * edge))  # over the samples of one channel, as published


def test_the_mixture_improves_nothing_and_order_and_copies_of_channels_do_not_matter() -> None:
    stems, noise = song(10), song(10, seed=1)
    nothing = msdm_scores(np.broadcast_to(stems.sum(0), stems.shape), stems, RATE)
    assert np.array_equal(nothing.improvement_SK, np.zeros((3, 4)))
    scores = msdm_scores(stems + 0.1 * noise, stems, RATE).improvement_SK
    order = [2, 0, 1]
    assert np.allclose(msdm_scores((stems + 0.1 * noise)[order], stems[order], RATE).improvement_SK, scores[order])
    stereo, stereo_noise = stems.repeat(2, axis=1), noise.repeat(2, axis=1)
    assert np.allclose(msdm_scores(stereo + 0.1 * stereo_noise, stereo, RATE).improvement_SK, scores)


def test_msdm_drops_lonely_chunks_for_all_stems_and_keeps_silent_stems() -> None:
    stems = song(10)
    stems[2] = 0
    stems[1, :, : 5 * RATE] = 0  # the first chunk, 0 to 4 s, is stem 0 alone
    noise = song(10, seed=1)
    kept, every = (msdm_scores(stems + 0.1 * noise, stems, RATE, drop_lonely=drop) for drop in (True, False))
    assert [part.start for part in every.parts] == [0, 2 * RATE, 4 * RATE, 6 * RATE]
    assert kept.parts == every.parts[1:]
    assert np.array_equal(kept.improvement_SK, every.improvement_SK[:, 1:])
    assert np.isfinite(kept.improvement_SK[2]).all()
    assert msdm_scores(stems[:1], stems[:1], RATE).improvement_SK.shape == (1, 0)


def test_the_refiner_is_judged_on_silent_stems_by_what_it_leaves_in_them() -> None:
    stems, noise = song(8), song(8, seed=1)
    stems[1, :, 4 * RATE :] = 0
    estimates = stems + 0.1 * noise
    include, exclude = (refiner_scores(estimates, stems, RATE, include_silent=keep) for keep in (True, False))
    assert set(include[0]) == set(REFINER_METRICS)
    counts = {name: len(values) for name, values in include[1].items()}
    assert counts == {
        "si_snr": 2,
        "si_sdr": 2,
        "msdm_si_sdr": 3,
        "sdr": 3,
        "sdr_silent": 1,
        "output_rms_silent": 1,
    }
    assert len(exclude[1]["msdm_si_sdr"]) == 2
    assert include[0] == exclude[0]
    left = estimates[1, 0, 4 * RATE :]
    assert include[1]["output_rms_silent"] == [rms_db(left)]
    assert include[1]["sdr_silent"] == [pytest.approx(10 * math.log10(1e-5 / (left @ left + 1e-5)))]
    assert include[0]["msdm_si_sdr"] == pytest.approx(list(msdm_scores(estimates, stems, RATE).improvement_SK[0]))


def test_what_a_silent_stem_is_given_is_interference_or_artefact() -> None:
    stems = song(3)
    stems[0, :, RATE : 2 * RATE] = 0
    frame = slice(RATE, 2 * RATE)
    estimates = np.zeros_like(stems)
    estimates[0, 0, frame] = 0.5 * stems[1, 0, frame] + 0.2 * stems[2, 0, frame]
    leaked = silent_frame_scores(estimates, stems, RATE)
    assert [len(score["SIR"]) for score in leaked] == [1, 0, 0]
    energy = float(np.square(estimates[0, 0, frame]).sum())
    assert leaked[0]["SIR"] == [pytest.approx(10 * math.log10(EPSILON / (energy + EPSILON)), abs=1e-3)]
    assert leaked[0]["SAR"][0] > 80
    foreign = song(3, seed=5)[0, 0, frame]
    basis = np.linalg.qr(stems[1:, 0, frame].T)[0]
    estimates[0, 0, frame] = foreign - basis @ (basis.T @ foreign)
    invented = silent_frame_scores(estimates, stems, RATE)
    assert invented[0]["SIR"] == [pytest.approx(0, abs=1e-6)]
    assert invented[0]["SAR"][0] < -80


def test_stems_count_the_same_however_many_chunks_they_have() -> None:
    assert mean_over_stems([[1.0, 3.0], [5.0]]) == 3.5
    assert mean_over_stems([[6.0], []]) == 3.0
