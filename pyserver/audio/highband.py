"""What a model cannot hear for lack of sample rate, shared between its stems.

Above a 22 kHz model's range lies an octave; between two sample rates a few hundred hertz are lost in the resampler.
Axes: S stems, C channels, N samples, T frames.
"""

import numpy as np
import numpy.typing as npt

Audio = npt.NDArray[np.float32]

FRAME = 1024
_SMOOTHING = np.array([0.25, 0.5, 0.25], np.float32)


def band_power(audio: Audio, limit: float) -> Audio:
    """(..., N) → (..., T): power in the half octave below `limit` (cycles per sample), by half overlapped frames."""
    hop = FRAME // 2
    padded = np.pad(audio, [(0, 0)] * (audio.ndim - 1) + [(hop, hop + (-audio.shape[-1]) % hop)])
    frames = np.lib.stride_tricks.sliding_window_view(padded, FRAME, axis=-1)[..., ::hop, :]
    spectrum = np.fft.rfft(frames * np.hanning(FRAME).astype(np.float32), axis=-1)
    band = spectrum[..., round(limit * 0.7 * FRAME) : round(limit * FRAME)]
    power: Audio = (band.real**2 + band.imag**2).sum(-1, dtype=np.float32)
    return power


def high_shares(stems_SCN: Audio, mixture_CN: Audio, limit: float) -> Audio:
    """(S, T): each stem's part of the mixture's energy just below the limit; what no stem has stays out.

    A frame of silence has no parts of its own and takes those of the nearest that sounds: the edge of a sound reaches
    into it, and would otherwise be shared with nobody.
    """
    stems_ST = band_power(stems_SCN, limit).sum(1)
    rest_T = band_power(mixture_CN - stems_SCN.sum(0), limit).sum(0)
    total_T = stems_ST.sum(0) + rest_T
    shares = stems_ST / np.maximum(total_T, 1e-20)
    sounding = np.flatnonzero(total_T > 1e-9 * total_T.max(initial=0.0))
    if len(sounding):
        frames = np.arange(len(total_T))
        after = sounding[np.minimum(np.searchsorted(sounding, frames), len(sounding) - 1)]
        before = sounding[np.maximum(np.searchsorted(sounding, frames, side="right") - 1, 0)]
        shares = shares[:, np.where(np.abs(after - frames) < np.abs(frames - before), after, before)]
    padded = np.pad(shares, [(0, 0), (1, 1)], mode="edge")
    return np.apply_along_axis(lambda row: np.convolve(row, _SMOOTHING, mode="valid"), -1, padded).astype(np.float32)


def share_high_band(high_CN: Audio, shares_ST: Audio, model_samples: int) -> Audio:
    """(S, C, N): the part above the limit under each stem's share, interpolated from frames to samples.

    `model_samples` is the window's length at the model's rate, on which the frames lie.
    """
    num_samples = high_CN.shape[-1]
    at = np.arange(num_samples) * (model_samples / num_samples)
    centres = np.arange(shares_ST.shape[-1]) * (FRAME // 2)
    curves = np.stack([np.interp(at, centres, row) for row in shares_ST]).astype(np.float32)
    return curves[:, None] * high_CN
