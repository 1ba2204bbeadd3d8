"""One track of the data set, a pure function of (seed, split, index), and its files."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from . import mixing
from .arrange import Arrangement, arrange
from .score import STEMS, Part
from .songs import TEST, TRAIN, VALIDATION, catalogue
from .voices import render_stem

SPLITS = {"train": TRAIN, "val": VALIDATION, "test-song": TEST, "test-font": TEST}
"""Name of a rendered split to the split of its songs. Both test splits play the same arrangements."""

_GROUP_ID = {TRAIN: 0, VALIDATION: 1, TEST: 2}
_DRIVEN_PROGRAMS = (29, 30)


@dataclass(frozen=True, slots=True)
class Track:
    """Stems (2, L) float32, all of one length; their sum and each of them within -1 dBFS."""

    stems: dict[str, NDArray[np.float32]]
    meta: dict[str, Any]


def arrangement_of(seed: int, split: str, index: int) -> Arrangement:
    group = SPLITS[split]
    return arrange(np.random.default_rng([seed, _GROUP_ID[group], index]), catalogue(group))


def render_track(seed: int, split: str, index: int) -> Track:
    arrangement = arrangement_of(seed, split, index)
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


def write_track(root: Path, seed: int, split: str, index: int) -> float:
    """Renders and writes one track; returns its seconds. A reader sees the whole track or none of it."""
    final = track_dir(root, split, index)
    track = render_track(seed, split, index)
    beside = final.with_name(f".{final.name}.{os.getpid()}")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        for stem, audio_CL in track.stems.items():
            pcm = np.rint(audio_CL.T * 32767.0).astype(np.int16)
            soundfile.write(beside / f"{stem}.flac", pcm, mixing.SAMPLE_RATE_HZ, "PCM_16", compression_level=0.2)
        (beside / "meta.json").write_text(json.dumps(track.meta, indent=1) + "\n")
        beside.rename(final)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return float(track.meta["seconds"])


def written_seconds(root: Path, split: str, index: int) -> float | None:
    """Seconds of a track that is already there, None if it is not."""
    meta = track_dir(root, split, index) / "meta.json"
    return float(json.loads(meta.read_text())["seconds"]) if meta.is_file() else None
