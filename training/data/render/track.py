"""One track of the data set, a pure function of (seed, split, index), and its files."""

from __future__ import annotations

import json
import os
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import soundfile
from numpy.typing import NDArray

from . import mixing
from .arrange import Arrangement, arrange
from .score import STEMS, Part
from .songs import OwnSongs, catalogue
from .splits import TEST, TRAIN, VALIDATION
from .voices import render_stem

SPLITS = {"train": TRAIN, "val": VALIDATION, "test-song": TEST, "test-font": TEST}
"""Name of a rendered split to the split of its songs. Both test splits play the same arrangements."""

_GROUP_ID = {TRAIN: 0, VALIDATION: 1, TEST: 2}
META = "meta.json"
_DRIVEN_PROGRAMS = (29, 30)


@dataclass(frozen=True, slots=True)
class Track:
    """Stems (2, L) float32, all of one length; their sum and each of them within -1 dBFS."""

    stems: dict[str, NDArray[np.float32]]
    meta: dict[str, Any]


def arrangement_of(seed: int, split: str, index: int, own: OwnSongs | None = None) -> Arrangement:
    group = SPLITS[split]
    return arrange(np.random.default_rng([seed, _GROUP_ID[group], index]), catalogue(group, own))


def render_track(seed: int, split: str, index: int, own: OwnSongs | None = None) -> Track:
    arrangement = arrangement_of(seed, split, index, own)
    samples = round(arrangement.seconds * mixing.SAMPLE_RATE_HZ)
    stems, sounds = {}, {}
    for stem, parts in arrangement.stems.items():
        rng = np.random.default_rng([seed, list(SPLITS).index(split), index, STEMS.index(stem), 1])
        dry, sounds[stem] = render_stem(rng, split, stem, parts, samples)
        wet = mixing.process(rng, stem, dry, drive_chance(stem, parts, sounds[stem]))
        if wet is not None:
            stems[stem] = wet
    gain = mixing.common_gain(list(stems.values())) if stems else 1.0
    meta = {
        "song": arrangement.song,
        "groove": arrangement.groove,
        "licence": arrangement.licence,
        "seconds": samples / mixing.SAMPLE_RATE_HZ,
        "seed": seed,
        "index": index,
        "split": split,
        "transposed_semitones": arrangement.transposed_semitones,
        "tempo_factor": round(arrangement.tempo_factor, 4),
        "stems": {stem: sounds[stem] for stem in stems},
    }
    return Track({stem: audio * np.float32(gain) for stem, audio in stems.items()}, meta)


def drive_chance(stem: str, parts: tuple[Part, ...], sound: dict[str, Any]) -> float:
    """Distortion on top: some guitars, most guitars meant to be distorted, few others."""
    if stem == "guitar":
        return 0.45 if any(p.program in _DRIVEN_PROGRAMS for p in parts) else 0.2
    return {"bass": 0.08, "piano": 0.03, "other": 0.06}.get(stem, 0.04)


def track_dir(root: Path, split: str, index: int) -> Path:
    return root / split / f"Track{index:05d}"


def write_track(root: Path, seed: int, split: str, index: int, own: OwnSongs | None = None) -> float:
    """Renders and writes one track; returns its seconds."""
    track = render_track(seed, split, index, own)
    store_track(track, track_dir(root, split, index))
    return float(track.meta["seconds"])


def store_track(track: Track, final: Path) -> None:
    """A reader sees the whole track or none of it, whenever this process dies. One that is there stays."""
    beside = final.with_name(f".{final.name}.{socket.gethostname()}.{os.getpid()}")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        for stem, audio_CL in track.stems.items():
            pcm = np.rint(audio_CL.T * 32767.0).astype(np.int16)
            path = beside / f"{stem}.flac"
            soundfile.write(path, pcm, mixing.SAMPLE_RATE_HZ, "PCM_16", compression_level=0.2)
            _to_disk(path)
        (beside / META).write_text(json.dumps(track.meta, indent=1) + "\n")
        _to_disk(beside / META)
        if not (final / META).is_file():  # another machine that fills the same split may have been faster
            shutil.rmtree(final, ignore_errors=True)
            beside.rename(final)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _to_disk(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def remove_leftovers(folder: Path) -> None:
    """What renderers of this machine that are dead had half written into a split's folder."""
    for path in folder.glob(f".*.{socket.gethostname()}.*"):
        owner = path.suffix[1:]
        if owner.isdigit() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(path, ignore_errors=True)


def written_seconds(root: Path, split: str, index: int) -> float | None:
    """Seconds of a track that is already there, None if it is not."""
    meta = track_dir(root, split, index) / META
    return float(json.loads(meta.read_text())["seconds"]) if meta.is_file() else None


def written_minutes(root: Path, split: str, first_index: int = 0) -> float:
    """Minutes of all tracks from `first_index` on."""
    folders = sorted((root / split).glob("Track*"))
    indices = [int(folder.name.removeprefix("Track")) for folder in folders]
    found = (written_seconds(root, split, index) for index in indices if index >= first_index)
    return sum(seconds or 0.0 for seconds in found) / 60
