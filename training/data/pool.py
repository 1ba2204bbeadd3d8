"""Stems of many songs as memory-mapped int16, cut into random crops.

Axes: B batch, S stems, C channels, L samples. A crop is drawn from (seed, step, item) alone, so a run that is resumed
sees what the undisturbed run would have seen, as long as the folder holds the same songs.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from threading import Thread

import numpy as np
import numpy.typing as npt
from rich import progress

from training.data.datasets import NoSongs as NoSongs
from training.data.datasets import open_dataset
from training.data.decoded import Int16, decoded


@dataclass(frozen=True, slots=True, kw_only=True)
class CropConfig:
    """`remix` is the chance that a crop's stems come from unrelated songs, `repitch` that such a stem is resampled.

    `mixup` are the chances of a second, a third, ... cut of the same class in a remixed stem, which is then their mean,
    each at 0.5 to 1.5 of its level. `only_present`: such a stem comes from a song that has it; else it may be silent.
    """

    samples: int
    remix: float = 0.5
    repitch: float = 0.2
    repitch_range: float = 0.2
    min_active_stems: int = 2
    channels: int = 2
    mixup: tuple[float, ...] = ()
    only_present: bool = False

    def __post_init__(self) -> None:
        if self.channels not in (1, 2):
            raise ValueError(f"crops are mono or stereo, not of {self.channels} channels")


class StemPool:
    """All songs of a data set or of one split, in any layout of `training.data.datasets`, as int16 at one rate.

    `refresh` takes in what a renderer has added since. With a limit only the first so many songs are decoded.
    """

    def __init__(self, folder: Path, stems: Sequence[str], rate_hz: int = 44100, limit: int | None = None) -> None:
        self.dataset, self.stems, self.rate_hz, self.limit = open_dataset(folder), tuple(stems), rate_hz, limit
        self.names: list[str] = []
        self.tracks: list[Int16] = []
        self.with_stem: dict[str, list[Int16]] = {stem: [] for stem in self.stems}
        self.refresh()

    def refresh(self) -> None:
        known = set(self.names)
        songs = self.dataset.songs()[: self.limit]
        new = {name: song for song in songs if (name := f"{song.split}/{song.name}") not in known}
        with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as threads:
            ready = threads.map(lambda song: decoded(song, self.stems, self.rate_hz), new.values())
            for name in progress.track(new, "decoding", transient=True, disable=len(new) < 20):
                self.tracks.append(next(ready))
                self.names.append(name)
                for stem, sources in new[name].parts(self.stems).items():
                    if sources:
                        self.with_stem[stem].append(self.tracks[-1])

    @property
    def seconds(self) -> float:
        return float(sum(track.shape[1] for track in self.tracks)) / self.rate_hz


def _cut(track: Int16, stem: slice | int, start: int, samples: int) -> npt.NDArray[np.float32]:
    return np.multiply(track[stem, start : start + samples], 1 / 32768, dtype=np.float32)


def _start(track: Int16, samples: int, rng: np.random.Generator) -> int:
    return int(rng.integers(0, max(1, track.shape[1] - samples)))


def _repitched(
    track: Int16, stem: int, samples: int, ratio: float, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Pitch, formants and tempo together, by linear interpolation: a cheap new timbre."""
    source = _cut(track, stem, _start(track, int(samples * ratio) + 2, rng), int(samples * ratio) + 2)
    if len(source) < samples * ratio + 1:
        return source
    at = np.arange(samples, dtype=np.float32) * ratio
    low = at.astype(np.int64)
    weight = (at - low)[:, None]
    return source[low] * (1 - weight) + source[low + 1] * weight


def draw_crop(pool: StemPool, config: CropConfig, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """(S, C, L) float32. Where too few stems sound, it draws again: silence teaches nothing."""
    out = np.zeros((len(pool.stems), config.samples, 2), np.float32)
    for _ in range(8):
        out[:] = 0
        if rng.random() >= config.remix:
            track = pool.tracks[rng.integers(len(pool.tracks))]
            crop = _cut(track, slice(None), _start(track, config.samples, rng), config.samples)
            out[:, : crop.shape[1]] = crop
        else:
            for stem in range(len(pool.stems)):
                crop = _stem_of_any_song(pool, stem, config, rng)
                out[stem, : len(crop)] = crop[: config.samples]
                if config.mixup:
                    out[stem] = _mixed_up(out[stem], pool, stem, config, rng)
        if np.count_nonzero(np.abs(out).max(axis=(1, 2)) > 1e-3) >= config.min_active_stems:
            break
    stems_SCL = out.transpose(0, 2, 1)
    return stems_SCL.mean(1, keepdims=True) if config.channels == 1 else stems_SCL


def _stem_of_any_song(
    pool: StemPool, stem: int, config: CropConfig, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    tracks = (config.only_present and pool.with_stem[pool.stems[stem]]) or pool.tracks
    track = tracks[rng.integers(len(tracks))]
    if rng.random() < config.repitch:
        ratio = float(np.exp(rng.uniform(-1, 1) * config.repitch_range))
        return _repitched(track, stem, config.samples, ratio, rng)
    return _cut(track, stem, _start(track, config.samples, rng), config.samples)


def _mixed_up(
    first: npt.NDArray[np.float32], pool: StemPool, stem: int, config: CropConfig, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    total, cuts = first * np.float32(rng.uniform(0.5, 1.5)), 1
    for chance in config.mixup:
        if rng.random() < chance:
            crop = _stem_of_any_song(pool, stem, config, rng)
            total[: len(crop)] += crop[: config.samples] * np.float32(rng.uniform(0.5, 1.5))
            cuts += 1
    return total / np.float32(cuts)


def draw_batch(pool: StemPool, config: CropConfig, items: int | range, seed: int, step: int) -> npt.NDArray[np.float32]:
    """(B, S, C, L), a function of (seed, step) and the pool's songs: the first `items`, or those of a range."""
    chosen = range(items) if isinstance(items, int) else items
    return np.stack([draw_crop(pool, config, np.random.default_rng((seed, step, item))) for item in chosen])


def batches(
    pool: StemPool, config: CropConfig, items: int | range, seed: int, first_step: int, refresh_every: int = 200
) -> Iterator[npt.NDArray[np.float32]]:
    """Batches from `first_step` on, drawn two ahead in a thread of their own."""
    queue: Queue[npt.NDArray[np.float32] | Exception] = Queue(maxsize=2)

    def fill() -> None:
        step = first_step
        try:
            while True:
                if refresh_every and step % refresh_every == 0:
                    pool.refresh()
                queue.put(draw_batch(pool, config, items, seed, step))
                step += 1
        except Exception as error:  # a song that cannot be read ends the run, it does not leave it waiting
            queue.put(error)

    Thread(target=fill, daemon=True).start()
    while True:
        batch = queue.get()
        if isinstance(batch, Exception):
            raise batch
        yield batch
