"""SI-SDR and the chunked protocol of MSDM. Axes: L samples."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating]
EPSILON = 1e-8
SILENCE = 1.5e-5


def si_sdr(estimate: Array, reference: Array) -> float:
    """Scale-invariant SDR in dB over all samples of one chunk, without mean removal (MSDM's definition)."""
    estimate, reference = estimate.astype(np.float64).ravel(), reference.astype(np.float64).ravel()
    scale = (estimate @ reference + EPSILON) / (reference @ reference + EPSILON)
    target = scale * reference
    error = target - estimate
    return float(10 * np.log10((target @ target + EPSILON) / (error @ error + EPSILON)))


def is_silent(signal: Array) -> bool:
    """MSDM's rule: Euclidean norm over the number of samples (not its root)."""
    return bool(np.linalg.norm(signal.astype(np.float64).ravel()) / signal.size < SILENCE)


def chunks(num_samples: int, sample_rate_hz: int, length_s: float = 4.0, overlap_s: float = 2.0) -> Iterator[slice]:
    """4 s windows every 2 s; the last one may be shorter."""
    length, overlap = int(length_s * sample_rate_hz), int(overlap_s * sample_rate_hz)
    step = length - overlap
    for index in range(max(1, -(-(num_samples - overlap) // step))):
        yield slice(index * step, min(index * step + length, num_samples))
