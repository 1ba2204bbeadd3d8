"""The disk's side of one generation: what is known, the piece as it grows, and its stems in the end.

The model's timeline is mono and at the model's rate and level; it lies on the disk until the stems are made of it. Work
that takes long is a generator, so that it can be stopped between two steps; all of it may be done again after a crash.

Axes: S all stems of the model, K known ones, W written ones, C channels, N samples at the client's rate, L at the
model's.
"""

import hashlib
import math
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pyserver.audio.resample import resampled_blocks
from pyserver.engine.messages import Audio
from pyserver.models.card import ModelCard
from pyserver.separation.errors import JobCorrupted
from pyserver.separation.job import MIX, JobSpec, StemOutput
from pyserver.separation.job_files import JobFiles, Progress, disk_errors
from pyserver.separation.piece_plan import PiecePlan, PieceWindow

_OVERLAP = 4  # a quarter of a window is what the next one goes on from
_BLOCK_FRAMES = 1 << 17
_SILENCE_RMS = 1e-9


class Piece:
    """`windows` of the `plan` are finished."""

    def __init__(self, files: JobFiles, spec: JobSpec, card: ModelCard) -> None:
        self._files, self._spec, self._card = files, spec, card
        self._known, self._made = files.work_path("known"), files.work_path("made")
        self._rows_K = [card.stems.index(stem) for stem in spec.known]
        self._rows_W = [card.stems.index(stem) for stem in spec.stems]
        num_samples = max(1, round(spec.num_samples * card.sample_rate_hz / spec.sample_rate_hz))
        self.plan = PiecePlan(card.window_samples, card.window_samples // _OVERLAP, num_samples)
        self.windows = self._finished()
        self._gain = 1.0
        self.outputs: tuple[StemOutput, ...] = ()

    def prepare(self) -> Iterator[None]:
        """What is known, mono and at the model's rate; how much louder the model's timeline is follows from its level.

        The model knows mixtures of one level. Known stems are taken for their share of one, all stems being equally
        strong: they are brought to sqrt(K / S) of the card's `reference_rms`.
        """
        self._known.parent.mkdir(exist_ok=True)
        if not self._rows_K:
            return
        energy, place = 0.0, 0
        blocks = resampled_blocks(
            self._known_blocks(), self._spec.sample_rate_hz, self._card.sample_rate_hz, self.plan.num_samples
        )
        for block_LK in blocks:
            _write(self._known, place, block_LK)
            place += len(block_LK)
            energy += float(np.square(block_LK.sum(axis=1, dtype=np.float64)).sum())
            yield
        level = math.sqrt(energy / self.plan.num_samples)
        if level > _SILENCE_RMS:
            share = math.sqrt(len(self._rows_K) / len(self._card.stems))
            self._gain = self._card.reference_rms * share / level

    def cut(self, window: PieceWindow) -> tuple[Audio, Audio]:
        """(sources, mask), both (S, L): the known stems as far as the piece goes, and what is made already."""
        shape = (len(self._card.stems), window.length)
        sources_SL, mask_SL = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        if self._rows_K:
            count = min(window.stop, self.plan.num_samples) - window.start
            known_LK = _read(self._known, window.start, count, len(self._rows_K))
            sources_SL[self._rows_K, :count] = known_LK.T * np.float32(self._gain)
            mask_SL[self._rows_K, :count] = 1
        if window.overlap:
            made_LS = _read(self._made, window.start, window.overlap, len(self._card.stems))
            sources_SL[:, : window.overlap] = made_LS.T
            mask_SL[:, : window.overlap] = 1
        return sources_SL, mask_SL

    def push(self, window: PieceWindow, stems_SL: Audio) -> None:
        """What this window adds to the piece; the last thing written makes it count."""
        stop = min(window.stop, self.plan.num_samples)
        fresh_SL = stems_SL[:, window.overlap : stop - window.start]
        _write(self._made, window.start + window.overlap, fresh_SL.T)
        self.windows = window.index + 1
        nothing = np.zeros(0, np.float32)
        peaks_S = np.zeros(len(self._card.stems), np.float32)
        self._files.save_progress(Progress(windows=self.windows, done_samples=stop, peaks_S=peaks_S, tail_SCF=nothing))

    def finish(self) -> Iterator[None]:
        """The stems at the client's rate, channels and level; `outputs` are on the disk when this has ended."""
        spec, names = self._spec, self._spec.outputs
        digests, peaks, place = [hashlib.sha256() for _ in names], [0.0] * len(names), 0
        blocks = resampled_blocks(self._made_blocks(), self._card.sample_rate_hz, spec.sample_rate_hz, spec.num_samples)
        for block_NW in blocks:
            block_WN = block_NW.T / np.float32(self._gain)
            if names[-1] == MIX:
                mix_N = block_WN.sum(axis=0, dtype=np.float64).astype(np.float32)
                block_WN = np.concatenate([block_WN, mix_N[None]])
            for index, mono_N in enumerate(block_WN):
                audio_CN = np.broadcast_to(mono_N, (spec.channels, len(mono_N)))
                digests[index].update(self._files.write_stem(names[index], place, audio_CN))
                peaks[index] = max(peaks[index], float(np.abs(mono_N).max(initial=0)))
            place += len(block_NW)
            yield
        for name in names:
            self._files.sync_stem(name)
            yield
        self.outputs = tuple(
            StemOutput(
                stem=name, num_bytes=place * 4 * spec.channels, sha256=digest.hexdigest(), peak=peak, silent=not peak
            )
            for name, digest, peak in zip(names, digests, peaks, strict=True)
        )

    def _finished(self) -> int:
        """How many windows an earlier run has left whole."""
        saved = self._files.load_progress(len(self._card.stems))
        if saved is None or not self._made.is_file():
            return 0
        whole = self._made.stat().st_size >= 4 * len(self._card.stems) * saved.done_samples
        return saved.windows if whole and saved.windows <= self.plan.count else 0

    def _known_blocks(self) -> Iterator[Audio]:
        """(N, K): the channels of each known stem in their mean."""
        spec = self._spec
        for start in range(0, spec.num_samples, _BLOCK_FRAMES):
            audio_CN = self._files.read_input(start, min(start + _BLOCK_FRAMES, spec.num_samples))
            yield audio_CN.reshape(len(spec.known), spec.channels, -1).mean(axis=1).T

    def _made_blocks(self) -> Iterator[Audio]:
        """(L, W)."""
        for start in range(0, self.plan.num_samples, _BLOCK_FRAMES):
            count = min(_BLOCK_FRAMES, self.plan.num_samples - start)
            yield _read(self._made, start, count, len(self._card.stems))[:, self._rows_W]


def _read(path: Path, start: int, count: int, width: int) -> Audio:
    """(count, width) frames. Raises JobCorrupted where they are missing."""
    try:
        values = np.fromfile(path, "<f4", count * width, offset=4 * start * width)
    except OSError as error:
        raise JobCorrupted(f"{path} cannot be read: {error}; delete the job") from error
    if len(values) < count * width:
        raise JobCorrupted(f"{path} is shorter than its job; delete the job")
    return values.reshape(count, width).astype(np.float32, copy=False)


def _write(path: Path, start: int, audio: Audio) -> None:
    """Frames (L, width) in their place."""
    data = np.ascontiguousarray(audio, dtype="<f4").tobytes()
    with disk_errors(path, len(data)):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.seek(4 * start * audio.shape[1])
            file.write(data)
