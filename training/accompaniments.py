"""Pairs of what is known of a song and what accompanies it: as the song has it, as a model makes it, and otherwise.

Axes: S stems, K known ones, W written ones, N samples, C channels, P pairs.
"""

import asyncio
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pyserver.audio.resample import resample_to
from pyserver.engine.messages import Audio, WalkRequest, WalkResult
from pyserver.engine.pipeline import Pipeline
from pyserver.separation.generation import Generation
from pyserver.separation.job import JobKind, JobSpec
from pyserver.separation.job_files import JobFiles
from pyserver.separation.jobs import checked
from training.data.datasets import Song
from training.music_embedding import RATE_HZ
from training.separate import LocalModel

LATE_S = 0.2
SILENCE_RMS = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is given and what is to be made of it, in clips of `seconds`, at most `clips` of a song."""

    known: tuple[str, ...]
    write: tuple[str, ...]
    seconds: float
    clips: int


@dataclass(frozen=True, slots=True)
class Pair:
    """`known_N` and `made_N` at RATE_HZ."""

    song: int
    known_N: Audio
    made_N: Audio


@dataclass(frozen=True, slots=True)
class Clip:
    """`known_KN`, mono, at the song's own rate; `true` is their sum with the song's own accompaniment."""

    known_KN: Audio
    rate_hz: int
    true: Pair

    def with_made(self, made_N: Audio) -> Pair:
        """What a model has made, at the clip's rate, in place of the song's own."""
        return Pair(self.true.song, self.true.known_N, _at_rate(made_N, self.rate_hz))


def clips_of(song: Song, number: int, task: Task) -> Iterator[Clip]:
    """Evenly over the song and apart; only those in which both what is known and what is to be written sound."""
    stems = (*task.known, *task.write)
    if not any(song.parts(stems).values()):
        return
    audio_SNC, rate_hz = song.load(stems, channels=None)
    stems_SN, length = audio_SNC.mean(-1), round(task.seconds * rate_hz)
    there_are = stems_SN.shape[-1] // length
    for place in np.linspace(0, there_are, min(task.clips, there_are), endpoint=False).astype(int):
        cut_SN = stems_SN[:, place * length : (place + 1) * length]
        known_KN, written_WN = np.split(cut_SN, [len(task.known)])
        true = Pair(number, _at_rate(known_KN.sum(0), rate_hz), _at_rate(written_WN.sum(0), rate_hz))
        if min(_level(true.known_N), _level(true.made_N)) > SILENCE_RMS:
            yield Clip(known_KN.copy(), rate_hz, true)  # so that the song can be let go


def _at_rate(signal_N: Audio, rate_hz: int) -> Audio:
    return resample_to(signal_N, rate_hz, RATE_HZ, round(len(signal_N) * RATE_HZ / rate_hz))


class Accompanist:
    """A model that makes what goes with a clip as the server does: its windows, levels, resampling and noise.

    Raises on construction what the server refuses: ModelCannot, StemUnknown and JobInvalid.
    """

    def __init__(self, model: LocalModel, task: Task, steps: int | None, seed: int) -> None:
        self._pipeline, self._card = Pipeline(model.network, model.card, model.device), model.card
        self._task, self._steps, self._seed = task, self._card.generation_steps_for(steps), seed
        self._spec(round(task.seconds * self._card.sample_rate_hz), self._card.sample_rate_hz)

    @property
    def steps(self) -> int:
        return self._steps

    def __call__(self, clip: Clip, number: int) -> Audio:
        """(N,) at the clip's rate, the sum of what is to be written; clip `number` has noise of its own."""
        spec = self._spec(clip.known_KN.shape[-1], clip.rate_hz, number)
        with tempfile.TemporaryDirectory() as folder:
            files = JobFiles(Path(folder), 1, spec.num_samples, spec.input_channels)
            files.append_input(0, np.ascontiguousarray(clip.known_KN.T, dtype="<f4").tobytes())
            asyncio.run(Generation(files, spec, self._card, self._walk, _tell_nobody).run())
            stems_WN = np.stack([np.fromfile(files.stem_path(stem), "<f4") for stem in self._task.write])
        made_N: Audio = stems_WN.sum(0, dtype=np.float32)
        return made_N

    def _spec(self, num_samples: int, rate_hz: int, number: int = 0) -> JobSpec:
        spec = JobSpec(
            model=self._card.name,
            refiner_steps=self._steps,
            noise_seed=self._seed + number,
            sample_rate_hz=rate_hz,
            channels=1,
            num_samples=num_samples,
            stems=self._task.write,
            kind=JobKind.GENERATE,
            known=self._task.known,
        )
        return checked(spec, self._card)

    async def _walk(self, request: WalkRequest) -> WalkResult:
        return self._pipeline.walk(request)


async def _tell_nobody(_: int) -> None:
    pass


def shuffled(pairs_P: Sequence[Pair], rng: np.random.Generator) -> list[Pair]:
    """Each known part with the accompaniment of a clip of another song, as loud against it as against its own."""
    found = []
    for here in pairs_P:
        others = [other for other in pairs_P if other.song != here.song]
        there = others[int(rng.integers(len(others)))]
        gain = np.float32(_level(here.known_N) / _level(there.known_N))
        found.append(Pair(here.song, here.known_N, there.made_N * gain))
    return found


def late(pairs_P: Sequence[Pair]) -> list[Pair]:
    """The song's own accompaniment, LATE_S behind; what falls off at the end comes at the beginning."""
    return [Pair(each.song, each.known_N, np.roll(each.made_N, round(LATE_S * RATE_HZ))) for each in pairs_P]


def silent(pairs_P: Sequence[Pair]) -> list[Pair]:
    return [Pair(each.song, each.known_N, np.zeros_like(each.made_N)) for each in pairs_P]


def _level(signal_N: Audio) -> float:
    return float(np.sqrt(np.mean(np.square(signal_N, dtype=np.float64))))
