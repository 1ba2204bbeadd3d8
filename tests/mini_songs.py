"""Fresh little data sets: random notes, played by our own synthesizers alone, or as MIDI by the whole renderer."""

import subprocess
import sys
from collections.abc import Iterable
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


def write_midi(path: Path, instruments: Iterable[tuple[int, bool]], seed: int = 0) -> None:
    """Half a minute of quarter notes; an instrument is its General-MIDI program, and whether it is drums."""
    import symusic

    rng, score = np.random.default_rng(seed), symusic.Score(480)
    for program, is_drum in instruments:
        part = symusic.Track(program=program, is_drum=is_drum)
        low, high = (36, 46) if is_drum else (40, 70)
        for beat, pitch in enumerate(rng.integers(low, high, 60)):
            part.notes.append(symusic.Note(480 * beat, 400, int(pitch), 100))
        score.tracks.append(part)
    path.write_bytes(score.dumps_midi())


def render_set(root: Path) -> Path:
    """`train` and `val` by the renderer's own command: a song or two of these, or of those that are installed."""
    midi = root / "midi"
    midi.mkdir()
    for number in range(20):  # enough for both sides of the split
        write_midi(
            midi / f"song {number}.mid", [(program, s == "drums") for s, (program, *_) in RANGES.items()], number
        )
    for split in ("train", "val"):
        where = ["--out", str(root / "songs"), "--split", split, "--hours", "0.005", "--workers", "1"]
        command = [sys.executable, "-m", "training.data.render", *where, "--midi", str(midi)]
        subprocess.run(command, check=True, capture_output=True, timeout=250)
    return root / "songs"


def write_mini_set(root: Path) -> Path:
    """Two songs to train with and one to validate with, in our own layout."""
    for seed, place in enumerate(("train/Track00000", "train/Track00001", "val/Track00000")):
        write_song(root / place, seed)
    return root
