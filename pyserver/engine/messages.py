"""What crosses the border between the API process and the engine process. Plain values; needs no torch.

Axes: C channels, N samples, S stems.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

Audio = npt.NDArray[np.float32]


class BackendChoice(StrEnum):
    """What computes a model's networks. `AUTO`: what was found to be faster (pyserver.engine.backend_choice)."""

    AUTO = "auto"
    TORCH = "torch"
    TORCH_HALF = "torch-half"  # also where half precision is further from float32 than is taken by itself
    ONNX = "onnx"
    TENSORRT = "tensorrt"  # never chosen by itself: its engines are built by timing, two builds may differ in bits


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

    @property
    def shape_of_pass(self) -> tuple[object, ...]:
        """What windows that share a batch have in common; seed, position and `keep` are each one's own."""
        return self.model, self.sample_rate_hz, self.audio_CN.shape, self.settings.refiner_steps


@dataclass(frozen=True, slots=True)
class WindowResult:
    """`stems_SCN` covers the request's `keep`, in the order of the model card's stems, at the request's rate.

    The same request, computed alone, gives the same bits wherever `computed_by` is the same. `compute_s` of a window of
    a batch is its share of the time.
    """

    stems_SCN: Audio
    compute_s: float
    computed_by: str = ""


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What became of windows that were to be computed as one batch, and how many of their model may be from now on."""

    outcomes: tuple[WindowResult | Exception, ...]
    live_batch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherDevice:
    """A device of this machine that could be chosen instead; `backend` as in DeviceInfo."""

    index: int
    name: str
    backend: str
    total_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WalkRequest:
    """Some steps of the walk from noise to a window of stems: pure in its fields, so it can be repeated anywhere.

    All at the model's rate, mono and at its level. Of the window, `sources_SL` are given where `mask_SL` is 1;
    `position` is where it starts in the piece, and with the seed and the number of a step fixes the noise. The steps
    `first` to `stop` (half-open) of `steps` are made, from `x_SP` on: where the ones before led, None for the first.
    """

    model: str
    sources_SL: Audio
    mask_SL: Audio
    position: int
    noise_seed: int
    steps: int
    first: int
    stop: int
    x_SP: Audio | None


@dataclass(frozen=True, slots=True)
class WalkResult:
    """Where the steps led: after the last of the walk the window (S, L) with what is known as it was given, before
    that the state (S, P), P being the length that the network takes."""

    x_SP: Audio
    compute_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceInfo:
    """The device that is really computing, as the engine process itself found it.

    `live_preempts`: a live window does not wait for the bounce window under way (on a CPU the operating system
    lets it go first); where false, a live window may have to wait for one whole bounce window.
    """

    index: int
    name: str
    backend: str  # that of the model loaded at the start: "torch-cpu", "torch-cuda", "onnxruntime-cpu", ...
    total_bytes: int
    free_bytes: int
    threads: int
    live_preempts: bool
    others: tuple[OtherDevice, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A model in the engine's memory, and what it costs on this device (0 until measured).

    Compute seconds are measured at the model's own rate and channels, with nothing else running. A live window's
    cost is `live_base_s` plus `live_step_s` for each refiner step. `live_batch` is how many live windows to compute as
    one batch: 1 where that was not found to be faster than one after the other.
    """

    name: str
    weights_sha256: str
    realtime_factor: float  # compute seconds per second of audio in a bounce, at the default quality
    bounce_window_s: float  # compute seconds of one bounce window at the default quality
    live_base_s: float
    live_step_s: float
    live_batch: int = 1
    backend: str = ""  # as in DeviceInfo; models of one engine may differ in it

    @property
    def measured(self) -> bool:
        return self.realtime_factor > 0

    def live_window_s(self, refiner_steps: int) -> float:
        """Compute seconds of one live window with so many refiner steps."""
        return self.live_base_s + refiner_steps * self.live_step_s
