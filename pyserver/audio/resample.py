"""Resampling of whole windows. Axes: N samples, last; anything before them."""

import numpy as np
import numpy.typing as npt
import soxr

Audio = npt.NDArray[np.float32]


def resample_to(audio: Audio, from_hz: int, to_hz: int, num_samples: int) -> Audio:
    """(..., N) at `from_hz` → (..., num_samples) at `to_hz`; sample 0 of both lies at the same time.

    Stateless: the filter's first and last milliseconds see silence outside the window, which its margin has to cover.
    """
    if from_hz == to_hz:
        return fit(audio, num_samples)
    flat = np.ascontiguousarray(audio.reshape(-1, audio.shape[-1]).T)
    changed = np.asarray(soxr.resample(flat, from_hz, to_hz, quality="HQ"), dtype=np.float32)
    return fit(np.ascontiguousarray(changed.T).reshape(*audio.shape[:-1], -1), num_samples)


def fit(audio: Audio, num_samples: int) -> Audio:
    """Cut at the end, or continued with silence. Resamplers round lengths up or down by one."""
    if audio.shape[-1] >= num_samples:
        return audio[..., :num_samples]
    return np.pad(audio, [(0, 0)] * (audio.ndim - 1) + [(0, num_samples - audio.shape[-1])])
