"""Effects and levels of a stem: what a mixing engineer would have done, at random."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pedalboard import (
    Chorus,
    Compressor,
    Distortion,
    HighpassFilter,
    HighShelfFilter,
    LowpassFilter,
    LowShelfFilter,
    PeakFilter,
    Pedalboard,
    Reverb,
)
from scipy.signal import lfilter

SAMPLE_RATE_HZ = 44_100
WORKING_RMS = 0.1
BASE_LUFS = -13.0
JITTER_DB = 4.0
CEILING = 10 ** (-1 / 20)

# BS.1770-4 K-weighting at 48 kHz warped to 44.1 kHz (the coefficients of libebur128's formula)
_SHELF = ((1.5308412300498355, -2.6509799951536985, 1.1690790799210682), (1.0, -1.6636551132560204, 0.7125954280732254))
_HIGHPASS = ((1.0, -2.0, 1.0), (1.0, -1.9891696736297957, 0.9891990357870394))


@dataclass(frozen=True, slots=True)
class Placement:
    pan: float  # -1 left .. 1 right
    width: float  # 0 mono, 1 as rendered


def loudness_lufs(audio_CL: NDArray[np.float32], sample_rate_hz: int = SAMPLE_RATE_HZ) -> float:
    """Integrated loudness of BS.1770-4 at 44.1 kHz; -inf for silence. Blocks of 400 ms, 75 % overlap, both gates."""
    weighted = lfilter(*_HIGHPASS, lfilter(*_SHELF, audio_CL, axis=-1), axis=-1)
    hop = sample_rate_hz // 10
    count = weighted.shape[-1] // hop
    if count < 4:
        power = float(np.mean(weighted**2, axis=-1).sum())
        return -0.691 + 10 * np.log10(power) if power > 1e-7 else -np.inf
    tenth = np.square(weighted[:, : count * hop]).reshape(len(weighted), count, hop).mean(-1).sum(0)
    block = np.convolve(tenth, np.full(4, 0.25), "valid")
    block = block[block > 10 ** ((-70 + 0.691) / 10)]
    if not len(block):
        return -np.inf
    block = block[block > 0.1 * block.mean()]
    return float(-0.691 + 10 * np.log10(block.mean()))


def process(
    rng: np.random.Generator, stem: str, audio_CL: NDArray[np.float32], drive_chance: float
) -> NDArray[np.float32] | None:
    """(2, L) with random effects, at a random loudness round -13 LUFS; None when there is nothing to hear."""
    rms = float(np.sqrt(np.mean(np.square(audio_CL))))
    if rms < 1e-5:
        return None
    board = Pedalboard(effect_chain(rng, stem, drive_chance))
    wet = board(audio_CL * np.float32(WORKING_RMS / rms), SAMPLE_RATE_HZ)
    wet = place(wet, random_placement(rng, stem))
    loudness = loudness_lufs(wet)
    if not np.isfinite(loudness):
        return None
    target = BASE_LUFS + float(rng.uniform(-JITTER_DB, JITTER_DB))
    return (wet * np.float32(10 ** ((target - loudness) / 20))).astype(np.float32)


def effect_chain(rng: np.random.Generator, stem: str, drive_chance: float) -> list[object]:
    """Plugins in signal order. `rng` is drawn from a varying number of times: give each stem its own."""

    def log_uniform(low: float, high: float) -> float:
        return float(np.exp(rng.uniform(np.log(low), np.log(high))))

    chain: list[object] = []
    if rng.random() < drive_chance:
        chain += [
            HighpassFilter(log_uniform(60, 140)),
            Distortion(float(rng.uniform(6, 30))),
            LowpassFilter(log_uniform(3500, 8000)),
            PeakFilter(log_uniform(1200, 3500), float(rng.uniform(-3, 6)), 0.8),
        ]
    if rng.random() < 0.85:
        chain += [
            LowShelfFilter(log_uniform(80, 300), float(rng.normal(0, 2.5)), 0.7),
            PeakFilter(log_uniform(250, 5000), float(rng.normal(0, 3)), float(rng.uniform(0.4, 1.6))),
            HighShelfFilter(log_uniform(2500, 9000), float(rng.normal(0, 3.5)), 0.7),
        ]
    if rng.random() < 0.15:
        chain.append(LowpassFilter(log_uniform(900, 4000) if stem == "bass" else log_uniform(5000, 14000)))
    if rng.random() < 0.45:
        chain.append(
            Compressor(
                float(rng.uniform(-28, -14)),
                float(rng.uniform(1.5, 5)),
                float(rng.uniform(1, 30)),
                float(rng.uniform(50, 300)),
            )
        )
    if stem in ("guitar", "piano", "other") and rng.random() < 0.12:
        chain.append(Chorus(float(rng.uniform(0.3, 2)), float(rng.uniform(0.1, 0.4)), mix=float(rng.uniform(0.2, 0.5))))
    if rng.random() < (0.15 if stem == "bass" else 0.55):
        wet = float(rng.uniform(0.03, 0.22))
        chain.append(
            Reverb(
                float(rng.uniform(0.05, 0.6)), float(rng.uniform(0.3, 0.8)), wet, 1 - wet, float(rng.uniform(0.5, 1))
            )
        )
    return chain


def random_placement(rng: np.random.Generator, stem: str) -> Placement:
    spread = {"bass": 0.08, "drums": 0.1}.get(stem, 0.45)
    narrow = rng.random() < (0.5 if stem == "bass" else 0.2)
    return Placement(float(np.clip(rng.normal(0, spread), -0.9, 0.9)), 0.0 if narrow else float(rng.uniform(0.4, 1.2)))


def place(audio_CL: NDArray[np.float32], placement: Placement) -> NDArray[np.float32]:
    """Balance (equal power, centre unchanged) and mid/side width."""
    middle, side = (audio_CL[0] + audio_CL[1]) / 2, (audio_CL[0] - audio_CL[1]) / 2 * np.float32(placement.width)
    angle = (placement.pan + 1) * np.pi / 4
    left, right = np.cos(angle) * np.sqrt(2), np.sin(angle) * np.sqrt(2)
    return np.stack([(middle + side) * np.float32(left), (middle - side) * np.float32(right)])


def common_gain(stems: list[NDArray[np.float32]]) -> float:
    """One gain for all stems, at most 1, that keeps their sum and each of them within -1 dBFS."""
    mixture = np.sum(stems, axis=0)
    peak = max(float(np.abs(mixture).max()), *(float(np.abs(s).max()) for s in stems))
    return min(1.0, CEILING / peak) if peak > 0 else 1.0
