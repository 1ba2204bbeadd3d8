"""What every layout gives: songs with a name, a split, and sources that have a class.

Axes: S stems, L samples, C channels.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soxr

from pyserver.audio.files import AudioFile
from pyserver.errors import StemlineError
from training.data.datasets.container import read_stream
from training.data.datasets.errors import BrokenSong, StemsNotApart

Audio = npt.NDArray[np.float32]
CLASSES = ("bass", "drums", "guitar", "piano", "vocals", "other")
SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test", "omitted": "omitted"}


@dataclass(frozen=True, slots=True)
class Source:
    """A file, or one audio stream of a file, and the class it belongs to."""

    path: Path
    stem: str
    stream: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How a published data set lies on a disk.

    `marks` knows a song of this layout for certain and so recognises the data set; `holds` says what else in such a
    data set has to be a song, so that a song with a file missing is an error and not left out in silence.
    `apart` are the classes that have files of their own; anything else is inside `other`.
    """

    name: str
    shape: str
    apart: frozenset[str]
    marks: Callable[[Path], bool]
    holds: Callable[[Path], bool]
    sources: Callable[[Path], tuple[Source, ...]]
    title: Callable[[Path], str] = lambda path: path.name
    split: Callable[[str, str], str] = lambda folder_split, _title: folder_split

    def songs(self, folder: Path) -> list["Song"]:
        """All songs of a whole data set or of one split's folder; none where the folder has another layout."""
        found = list(_children(folder))
        if not any(self.marks(path) for _, path in found):
            return []
        return [
            Song(self, self.title(path), self.split(split, self.title(path)), path)
            for split, path in found
            if self.holds(path)
        ]


def split_of(folder_name: str) -> str | None:
    return SPLITS.get(folder_name, folder_name if folder_name.startswith("test-") else None)


def hashed_split(title: str, seed: str) -> str:
    """80/10/10 by the song's identity, for data sets that are published without splits."""
    draw = int.from_bytes(hashlib.sha256(f"{seed}:{title}".encode()).digest()[:4], "big") / 2**32
    return "train" if draw < 0.8 else "val" if draw < 0.9 else "test"


def _children(folder: Path) -> Iterator[tuple[str, Path]]:
    """What may be a song: lying in the folder itself, in its splits' folders, or in MoisesDB's versioned one."""
    own = split_of(folder.name) or "train"
    for child in _visible(folder):
        inner = split_of(child.name) or (own if child.name.startswith("moisesdb_v") else None)
        if inner is not None and child.is_dir():
            yield from ((inner, path) for path in _visible(child))
        else:
            yield own, child


def _visible(folder: Path) -> list[Path]:
    """Sorted. What is still being written, or was left by an operating system, begins with a dot or `__`."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith((".", "__")))


@dataclass(frozen=True, slots=True)
class Song:
    layout: Layout
    name: str
    split: str
    path: Path

    def parts(self, stems: Sequence[str]) -> dict[str, list[Source]]:
        """The sources of each stem that is asked for; those of classes not asked for count as `other`.

        Where `other` is not asked for they are left out, of the mixture too. Stems without a source are silent.
        """
        mingled = [stem for stem in stems if stem not in self.layout.apart]
        if mingled and "other" in stems:
            raise StemsNotApart(self.path, self.layout.name, mingled, sorted(self.layout.apart))
        parts: dict[str, list[Source]] = {stem: [] for stem in stems}
        for source in self.layout.sources(self.path):
            stem = source.stem if source.stem in parts else "other"
            if stem in parts:
                parts[stem].append(source)
        return parts

    def load(self, stems: Sequence[str], channels: int | None = 2) -> tuple[Audio, int]:
        """(S, L, C) float32 and the rate in Hz, the highest of the sources; shorter sources are continued with silence.

        Mono is put on both of two channels and stereo averaged to one; with None a song of mono sources stays mono.
        """
        read = {stem: [(source, *_read(source)) for source in parts] for stem, parts in self.parts(stems).items()}
        flat = [part for parts in read.values() for part in parts]
        if not flat:
            raise BrokenSong(self.path, self.path, f"a source of {', '.join(stems)}", "there is none")
        rate = max(rate for _, _, rate in flat)
        channels = channels or min(2, max(audio.shape[1] for _, audio, _ in flat))
        fitted = {
            stem: [resample(_with_channels(audio, channels, source), from_hz, rate) for source, audio, from_hz in parts]
            for stem, parts in read.items()
        }
        length = max(len(audio) for parts in fitted.values() for audio in parts)
        out = np.zeros((len(stems), length, channels), np.float32)
        for index, stem in enumerate(stems):
            for audio in fitted[stem]:
                out[index, : len(audio)] += audio
        return out, rate

    def mixture(self, stems: Sequence[str], channels: int | None = 2) -> tuple[Audio, int]:
        """(L, C): the sum of the stems, whatever a mixture's own file may hold."""
        audio, rate = self.load(stems, channels)
        return np.asarray(audio.sum(0)), rate


def resample(audio_LC: Audio, from_hz: int, to_hz: int) -> Audio:
    if from_hz == to_hz:
        return audio_LC
    return np.asarray(soxr.resample(audio_LC, from_hz, to_hz, quality="HQ"), np.float32)


def _with_channels(audio_LC: Audio, channels: int, source: Source) -> Audio:
    has = audio_LC.shape[1]
    if has == channels:
        return audio_LC
    if has == 1:
        return np.repeat(audio_LC, channels, axis=1)
    if channels == 1:
        return np.asarray(audio_LC.mean(axis=1, keepdims=True))
    raise BrokenSong(source.path.parent, source.path, "mono or stereo", f"it has {has} channels")


def _read(source: Source) -> tuple[Audio, int]:
    if source.stream is not None:
        return read_stream(source.path, source.stream)
    try:
        file = AudioFile(source.path)
        return next(file.blocks(file.num_samples)), file.sample_rate_hz
    except StemlineError as error:
        raise BrokenSong(source.path.parent, source.path, "audio from beginning to end", str(error)) from error
