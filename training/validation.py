"""Scores and panels while a stage is trained: SI-SDR improvement on a few whole songs, at the model's own rate.

Axes: S stems, C channels, N samples.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from torch import nn

from training.board import Panels
from training.data.pool import StemPool
from training.metrics import audible_chunks, is_silent, si_sdr_improvement

M = TypeVar("M", bound=nn.Module)
R = TypeVar("R")
Audio = npt.NDArray[np.float32]
Separate = Callable[[Audio], Audio]
"""Mixture (C, N) -> stems (S, C, N)."""

NAMED = ("bass", "drums", "guitar", "piano", "vocals")
PANEL_SECONDS = 6.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationConfig:
    """The first `songs` of the set, `seconds` of each at most (0: whole songs)."""

    songs: int = 8
    seconds: float = 0.0


class ValidationSet:
    """Songs, decoded when they are first asked for."""

    def __init__(
        self, folder: Path, stems: Sequence[str], rate_hz: int, channels: int, config: ValidationConfig
    ) -> None:
        self.folder, self.stems, self.rate_hz, self.channels, self.config = folder, stems, rate_hz, channels, config

    def songs(self) -> list[Audio]:
        pool = StemPool(self.folder, self.stems, self.rate_hz, limit=self.config.songs)
        length = int(self.config.seconds * self.rate_hz) or None
        return [as_audio(track[:, :length], self.channels) for track in pool.tracks]

    def scores(self, separate: Separate) -> dict[str, float]:
        """Mean SI-SDR_I in dB of each stem over all chunks in which it sounds and is not alone.

        `mean` is over the stems with a name, so without `other`; stems that never sound are left out.
        """
        found: dict[str, list[float]] = {stem: [] for stem in self.stems}
        for stems_SCN in self.songs():
            mixture_CN = stems_SCN.sum(0)
            estimates_SCN = separate(mixture_CN)
            for part in audible_chunks(stems_SCN, self.rate_hz):
                for stem, estimate, truth in zip(self.stems, estimates_SCN, stems_SCN, strict=True):
                    if not is_silent(truth[:, part]):
                        gain = si_sdr_improvement(estimate[:, part], truth[:, part], mixture_CN[:, part])
                        found[stem].append(gain)
        figures = {stem: float(np.mean(values)) for stem, values in found.items() if values}
        named = [value for stem, value in figures.items() if stem in NAMED]
        return {**figures, "mean": float(np.mean(named)) if named else float("nan")}

    def panels(self, separate: Separate) -> Panels:
        """A few seconds from the middle of the first song: mixture, and every stem as it is and as it is separated."""
        song_SCN = self.songs()[0]
        length = int(PANEL_SECONDS * self.rate_hz)
        start = max(0, (song_SCN.shape[-1] - length) // 2)
        stems_SCN = song_SCN[..., start : start + length]
        estimates_SCN = separate(stems_SCN.sum(0))
        audio: Mapping[str, Audio] = {"mixture": stems_SCN.sum(0)}
        for stem, truth, estimate in zip(self.stems, stems_SCN, estimates_SCN, strict=True):
            audio = {**audio, f"{stem}/truth": truth, f"{stem}/estimate": estimate}
        return Panels(self.rate_hz, audio)


def as_audio(track_SNC: npt.NDArray[np.int16], channels: int) -> Audio:
    """(S, C, N) in full scale = 1; mono is the mean of both channels."""
    stems_SCN = np.multiply(track_SNC.transpose(0, 2, 1), 1 / 32768, dtype=np.float32)
    return stems_SCN.mean(1, keepdims=True) if channels == 1 else stems_SCN


def judging(model: M, part: str, weights: nn.Module, judge: Callable[[M], R]) -> R:
    """`judge(model)` with `weights` as its part of that name, in evaluation mode; all is then as it was."""
    judged = copy.copy(model)
    judged._modules = {**model._modules, part: weights}
    modes = {module: module.training for module in judged.modules()}
    try:
        return judge(judged.eval())
    finally:
        for module, training in modes.items():
            module.training = training
