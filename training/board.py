"""TensorBoard: figures as curves, audio to listen to, spectrograms to look at. Optional: `pip install .[train]`.

Axes: C channels, N samples, F bins, T frames, V colour channels.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from pyserver.models.stft import StftSpec, stft

RANGE_DB = 80.0
BINS, FRAMES = 256, 512


@dataclass(frozen=True, slots=True)
class Panels:
    """Audio (C, N) by name, "bass/truth" and "bass/estimate" for instance, all at one rate."""

    sample_rate_hz: int
    audio: Mapping[str, npt.NDArray[np.float32]]


class Board(Protocol):
    def figures(self, step: int, values: Mapping[str, float]) -> None: ...
    def panels(self, step: int, panels: Panels) -> None: ...
    def close(self) -> None: ...


class NoBoard:
    def figures(self, step: int, values: Mapping[str, float]) -> None:
        pass

    def panels(self, step: int, panels: Panels) -> None:
        pass

    def close(self) -> None:
        pass


class TensorBoard:
    """Writes into `folder`; what an earlier run wrote from `first_step` on is hidden. Raises ModuleNotFoundError where
    TensorBoard is not installed."""

    def __init__(self, folder: Path, first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(folder, purge_step=first_step)

    def figures(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def panels(self, step: int, panels: Panels) -> None:
        loudest = max(float(np.abs(audio).max(initial=1e-6)) for audio in panels.audio.values())
        for name, audio_CN in panels.audio.items():
            mono = torch.from_numpy(audio_CN.mean(0) / loudest)[None]
            self.writer.add_audio(name, mono, step, panels.sample_rate_hz)
            self.writer.add_image(name, spectrogram(audio_CN / loudest), step)
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


def spectrogram(audio_CN: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """(V = 3, F, T) picture of `RANGE_DB` below full scale, low frequencies at the bottom."""
    mono = torch.from_numpy(np.ascontiguousarray(audio_CN.mean(0)))
    hop = max(64, len(mono) // FRAMES)
    power = stft(mono, StftSpec(2 * BINS, hop, 2 * BINS)).abs().square()[:BINS] / BINS**2
    level = (10 * torch.log10(power + 1e-12) / RANGE_DB + 1).clamp(0, 1).flip(0).numpy()
    # black, violet, orange, white: brightness rises evenly
    ramps = [np.interp(level, (0, 0.35, 0.7, 1), points) for points in ((0, 90, 240, 255), (0, 20, 120, 255))]
    blue = np.interp(level, (0, 0.35, 0.7, 1), (0, 130, 40, 230))
    return np.stack([*ramps, blue]).astype(np.uint8)
