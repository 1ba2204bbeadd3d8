"""What a few seconds of music and of its accompaniment have in common, as 32 numbers; needs no trained network.

An embedding of the mixture alone cannot tell a right accompaniment from one of another song: both sound like music of
this kind. So the pair is described, by what musicians mean by "it goes with that":

- timbre (12): how loud the accompaniment is in six bands, against the whole of what is known, and how much that varies;
- rhythm (8): whether onsets coincide, in three bands of delay, whether both have one pulse (autocorrelation of onset
  strength, Ellis 2007), and how dense the onsets are;
- harmony (12): how alike the chroma vectors are frame by frame, at the 12 transpositions (Serra et al. 2008 look for
  the best of these; here the one as played has to be it).

No number changes with the level of both together. Axes: N samples, F frequencies, T frames, M bands, D dimensions.
"""

from functools import cache

import numpy as np
import numpy.typing as npt

Audio = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

RATE_HZ = 11025
"""What all models of this repository can make: above 5.5 kHz a model of another rate would be told by its rate."""
PARTS = {"timbre": slice(0, 12), "rhythm": slice(12, 20), "harmony": slice(20, 32)}
DIMENSIONS = 32

_EDGES_HZ = (30, 120, 250, 500, 1000, 2000, 5500)
_FLOOR_DB = -60.0
_ONSET_WINDOW, _ONSET_HOP = 512, 128
_CHROMA_WINDOW, _CHROMA_HOP = 4096, 1024
_CHROMA_LOW_HZ, _CHROMA_HIGH_HZ = 55.0, 2000.0
_PULSE_S = 0.15, 1.5
"""The periods that count as a pulse: 40 to 400 a minute."""
_NEAR_S = (0.012, 0.05, 0.125)
"""Delays up to which onsets are simultaneous, nearly so, or a subdivision apart."""


def pair_embedding(known_N: Audio, made_N: Audio) -> Float64:
    """(32,) of a known part and its accompaniment, mono, of one length and at RATE_HZ.

    Raises ValueError for silent known parts, for other shapes, and for less than three seconds.
    """
    if known_N.shape != made_N.shape or known_N.ndim != 1 or len(known_N) < 3 * RATE_HZ:
        raise ValueError(f"two mono signals of one length, of at least 3 s: not {known_N.shape} and {made_N.shape}")
    level = float(np.sqrt(np.mean(np.square(known_N, dtype=np.float64))))
    if level < 1e-6:
        raise ValueError("what is known is silent: nothing can go with it")
    known_N, made_N = known_N / np.float32(level), made_N / np.float32(level)
    return np.concatenate([_timbre(made_N), _rhythm(known_N, made_N), _harmony(known_N, made_N)])


def _power(signal_N: Audio, window: int, hop: int) -> Float64:
    """(T, F) of Hann windows, so that white noise of level 1 has about 1 in every bin."""
    frames_TN = np.lib.stride_tricks.sliding_window_view(signal_N, window)[::hop]
    hann = np.hanning(window).astype(np.float32)
    spectrum_TF = np.fft.rfft(frames_TN * (hann / np.sqrt(np.square(hann).sum())), axis=-1)
    found: Float64 = np.square(np.abs(spectrum_TF))
    return found


@cache
def _bands() -> Float64:
    """(M, F): rows that add the bins of a band."""
    hz = np.fft.rfftfreq(_ONSET_WINDOW, 1 / RATE_HZ)
    low, high = np.array(_EDGES_HZ[:-1])[:, None], np.array(_EDGES_HZ[1:])[:, None]
    found: Float64 = ((hz >= low) & (hz < high)).astype(np.float64)
    return found


def _band_levels(signal_N: Audio) -> Float64:
    """(T, M) in dB: 0 is the level of what is known, if it lay in this band alone."""
    power_TM = _power(signal_N, _ONSET_WINDOW, _ONSET_HOP) @ _bands().T / (_ONSET_WINDOW / 2)
    found: Float64 = 10 * np.log10(power_TM + 10 ** (_FLOOR_DB / 10))
    return found


def _timbre(made_N: Audio) -> Float64:
    levels_TM = _band_levels(made_N)
    return np.concatenate([levels_TM.mean(0), levels_TM.std(0)])


def _onsets(levels_TM: Float64) -> Float64:
    """(T,) onset strength: how many dB the bands rise in a frame, against its mean over a second around."""
    rise_T = np.diff(levels_TM, axis=0).clip(min=0).mean(1)
    width = round(RATE_HZ / _ONSET_HOP)
    found: Float64 = rise_T - np.convolve(rise_T, np.ones(width) / width, "same")
    return found


def _unit(vector: Float64) -> Float64:
    """Of length 1, or 0 where there is nothing."""
    length = float(np.linalg.norm(vector))
    return vector / length if length > 1e-9 else np.zeros_like(vector)


def _correlations(a_T: Float64, b_T: Float64, lags: int) -> Float64:
    """Cosine of b, delayed by -lags to lags frames, with a."""
    size = 1 << int(np.ceil(np.log2(2 * len(a_T))))
    product = np.fft.rfft(_unit(a_T), size) * np.conj(np.fft.rfft(_unit(b_T), size))
    whole = np.fft.irfft(product, size)
    return np.concatenate([whole[-lags:], whole[: lags + 1]]) if lags else whole[:1]


def _rhythm(known_N: Audio, made_N: Audio) -> Float64:
    known_TM, made_TM = _band_levels(known_N), _band_levels(made_N)
    known_T, made_T = _onsets(known_TM), _onsets(made_TM)
    frames_s = RATE_HZ / _ONSET_HOP
    low, high = (round(seconds * frames_s) for seconds in _PULSE_S)
    around = _correlations(known_T, made_T, high)
    near = [around[high - reach : high + reach + 1].max() for reach in (round(s * frames_s) for s in _NEAR_S)]
    pulses = [_correlations(onsets_T, onsets_T, high)[high + low :] for onsets_T in (known_T, made_T)]
    alike = float(_unit(pulses[0] - pulses[0].mean()) @ _unit(pulses[1] - pulses[1].mean()))
    densities = [float(np.log10(np.abs(onsets_T).mean() + 0.01)) for onsets_T in (known_T, made_T)]
    return np.array(
        [*near, float(around.std()), alike, float(pulses[1].max()), densities[1], densities[1] - densities[0]]
    )


@cache
def _pitch_classes() -> Float64:
    """(F, 12): each bin's share in the pitch classes, C first."""
    hz = np.fft.rfftfreq(_CHROMA_WINDOW, 1 / RATE_HZ)
    used = (hz >= _CHROMA_LOW_HZ) & (hz <= _CHROMA_HIGH_HZ)
    pitch_F = 12 * np.log2(np.where(used, hz, 440.0) / 440.0) + 9
    away_FP = (pitch_F[:, None] - np.arange(12) + 6) % 12 - 6
    found: Float64 = np.exp(-0.5 * np.square(away_FP / 0.3)) * used[:, None]
    return found


def _chroma(signal_N: Audio) -> Float64:
    """(T, 12) of spectral peaks alone, as drums have none that stand; in their roots, each frame centred."""
    magnitude_TF = np.sqrt(_power(signal_N, _CHROMA_WINDOW, _CHROMA_HOP))
    peak_TF = np.zeros_like(magnitude_TF, dtype=bool)
    inner = magnitude_TF[:, 1:-1]
    peak_TF[:, 1:-1] = (inner > magnitude_TF[:, :-2]) & (inner >= magnitude_TF[:, 2:])
    chroma_TP = np.sqrt(np.where(peak_TF, magnitude_TF, 0) @ _pitch_classes())
    centred: Float64 = chroma_TP - chroma_TP.mean(1, keepdims=True)
    return centred


def _harmony(known_N: Audio, made_N: Audio) -> Float64:
    """Correlation of both chroma over all frames, with the accompaniment moved up by 0 to 11 semitones."""
    known_TP, made_TP = _unit(_chroma(known_N)), _unit(_chroma(made_N))
    return np.array([float((known_TP * np.roll(made_TP, shift, axis=1)).sum()) for shift in range(12)])
