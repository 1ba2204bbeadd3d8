"""What crosses the border between the API process and the engine process. Plain values; needs no torch.

Axes: C channels, N samples, S stems.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Audio = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SeparationSettings:
    """What, besides the audio, decides how stems sound. `refiner_steps` 0 means the separator alone."""

    refiner_steps: int
    noise_seed: int


@dataclass(frozen=True, slots=True)
class WindowRequest:
    """One window to separate: pure in its fields, so it can be repeated, reordered and moved between engines.

    `position` is where `audio_CN` starts on the client's timeline; with the seed it fixes the refiner's noise.
    `keep` is the half-open part of the window, relative to it, that is to come back.
    """

    model: str
    audio_CN: Audio
    sample_rate_hz: int
    position: int
    keep: tuple[int, int]
    settings: SeparationSettings


@dataclass(frozen=True, slots=True)
class WindowResult:
    """`stems_SCN` covers the request's `keep`, in the order of the model card's stems, at the request's rate."""

    stems_SCN: Audio
    compute_s: float
