"""A fresh little data set: short songs of random notes, played by our own synthesizers. Needs no soundfont."""

from pathlib import Path

import numpy as np
import soundfile

from training.data.render.mixing import SAMPLE_RATE_HZ
from training.data.render.score import Part
from training.data.render.voices import synthesised

SECONDS = 6.0
# program, lowest and highest note; drums keep to the General-MIDI kit's first octave
RANGES = {
    "bass": (33, 28, 45),
    "drums": (0, 36, 46),
    "guitar": (25, 48, 72),
    "piano": (0, 45, 80),
    "other": (48, 50, 75),
}


def random_part(rng: np.random.Generator, stem: str) -> Part:
    """Eighth notes, some left out."""
    program, low, high = RANGES[stem]
    starts = np.arange(0.0, SECONDS - 0.5, 0.25)
    starts = starts[rng.random(len(starts)) < 0.6]
    pitch = rng.integers(low, high + 1, len(starts))
    velocity = rng.integers(60, 120, len(starts))
    return Part(program, stem == "drums", starts, starts + 0.3, pitch, velocity)


def write_song(folder: Path, seed: int) -> None:
    folder.mkdir(parents=True)
    for number, stem in enumerate(RANGES):
        rng = np.random.default_rng((seed, number))
        audio_CL, _ = synthesised(rng, stem, (random_part(rng, stem),), round(SECONDS * SAMPLE_RATE_HZ))
        audio_CL *= 0.1 / max(float(np.sqrt(np.mean(audio_CL**2))), 1e-6)
        soundfile.write(folder / f"{stem}.flac", audio_CL.T.clip(-1, 1), SAMPLE_RATE_HZ, "PCM_16")


def write_mini_set(root: Path) -> Path:
    """Two songs to train with and one to validate with, in our own layout."""
    for seed, place in enumerate(("train/Track00000", "train/Track00001", "val/Track00000")):
        write_song(root / place, seed)
    return root
