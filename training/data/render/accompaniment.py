"""Songs written on the spot: a random chord progression, played by mma's grooves, with a melody of our own on top."""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .score import Part, ScoreError, read_midi
from .songs import GrooveFamily

NOTE_NAMES = ("C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
MAJOR_SCALE = (0, 2, 4, 5, 7, 9, 11)
MINOR_SCALE = (0, 2, 3, 5, 7, 8, 10)

# degree of the scale (0 = tonic) and the quality of the triad there
PROGRESSIONS_MAJOR = (
    "0 4 5m 3", "0 5m 3 4", "5m 3 0 4", "0 3 4 0", "0 3 0 4", "1m 4 0 0", "0 2m 3 4", "0 5m 1m 4",
    "3 4 2m 5m", "0 4 1m 3", "0 0 3 3 0 0 4 0", "0 2m 5m 4 3 0 1m 4", "0 4 5m 2m 3 0 3 4", "0 0 0 0 3 3 0 0 4 3 0 4",
)  # fmt: skip
PROGRESSIONS_MINOR = (
    "0m 5 2 6", "0m 3m 4m 0m", "0m 6 5 6", "0m 6 5 4", "0m 5 3m 4", "0m 2 6 3m", "0m 0m 3m 3m 4 4 0m 4",
    "0m 3m 6 2 5 3m 4 0m",
)  # fmt: skip
COLOURS = {"": ("", "", "", "7", "M7", "6", "9", "sus4"), "m": ("m", "m", "m", "m7", "m7", "m9", "m6")}
TONES = {"": (0, 4, 7), "m": (0, 3, 7)}

BARS = 44


@dataclass(frozen=True, slots=True)
class Chord:
    root: int  # pitch class
    minor: bool
    name: str


@dataclass(frozen=True, slots=True)
class Sheet:
    """A lead sheet: one chord a bar, tempo in beats a minute."""

    chords: tuple[Chord, ...]
    scale: tuple[int, ...]
    tempo_bpm: float
    beats_per_bar: int


def write_sheet(rng: np.random.Generator, beats_per_bar: int) -> Sheet:
    minor = rng.random() < 0.4
    degrees, key = (MINOR_SCALE if minor else MAJOR_SCALE), int(rng.integers(12))
    patterns = PROGRESSIONS_MINOR if minor else PROGRESSIONS_MAJOR
    colour = {quality: str(rng.choice(names)) for quality, names in COLOURS.items()}
    verse, chorus = (_progression(rng, str(rng.choice(patterns)), degrees, key, colour) for _ in range(2))
    bars: list[Chord] = []
    while len(bars) < BARS:
        bars += verse * 2 + chorus * 2
    tempo = float(rng.triangular(66, 116, 172))
    return Sheet(tuple(bars[:BARS]), tuple((key + d) % 12 for d in degrees), tempo, beats_per_bar)


def _progression(
    rng: np.random.Generator, pattern: str, degrees: tuple[int, ...], key: int, colour: dict[str, str]
) -> list[Chord]:
    chords = []
    for token in pattern.split():
        match = re.fullmatch(r"(\d)(m?)", token)
        assert match is not None
        root, quality = (key + degrees[int(match[1])]) % 12, match[2]
        suffix = colour[quality] if rng.random() < 0.7 else quality
        chords.append(Chord(root, quality == "m", NOTE_NAMES[root] + suffix))
    return chords


def play(rng: np.random.Generator, family: GrooveFamily, melody_program: int | None) -> tuple[list[Part], str]:
    """Parts and the groove's name. A family whose grooves mma itself refuses raises ScoreError."""
    sheet = write_sheet(rng, family.beats_per_bar)
    grooves = [str(g) for g in rng.choice(family.grooves, size=min(2, len(family.grooves)), replace=False)]
    lines = [f"RndSeed {int(rng.integers(1, 2**31))}", f"Tempo {sheet.tempo_bpm:.0f}"]
    for bar, chord in enumerate(sheet.chords):
        if bar % 16 == 0:
            lines.append(f"Groove {family.library_file}:{grooves[(bar // 16) % len(grooves)]}")
        lines.append(f"{bar + 1} {chord.name}")
    parts = read_midi(run_mma("\n".join(lines) + "\n"))
    if not any(p.stem == "bass" for p in parts) and rng.random() < 0.75:
        parts.append(bass_line(rng, sheet))
    if melody_program is not None:
        parts.append(melody(rng, sheet, melody_program))
    return parts, "+".join(grooves)


def run_mma(source: str) -> bytes:
    """The standard MIDI file mma makes of `source`. mma wants files and an absolute path."""
    with tempfile.TemporaryDirectory(prefix="stemline-mma-") as folder:
        song, midi = Path(folder) / "song.mma", Path(folder) / "song.mid"
        song.write_text(source)
        done = subprocess.run(
            ["mma", "-w", str(song), "-f", str(midi)], capture_output=True, text=True, timeout=60, check=False
        )
        if done.returncode != 0 or not midi.is_file():
            raise ScoreError(f"mma failed: {(done.stdout + done.stderr).strip()[-300:]}")
        return midi.read_bytes()


def melody(rng: np.random.Generator, sheet: Sheet, program: int) -> Part:
    """A tune: two one-bar rhythms, repeated; strong beats on chord tones, the rest walking along the scale."""
    beat_s = 60.0 / sheet.tempo_bpm
    rhythms = [_rhythm(rng, sheet.beats_per_bar) for _ in range(3)]
    low = int(rng.integers(55, 68))
    pitch = low + 7
    start, end, pitches, velocity = [], [], [], []
    for bar, chord in enumerate(sheet.chords):
        if (bar // 4) % 4 == 3 and rng.random() < 0.5:
            continue
        for onset, length in rhythms[(0, 1, 0, 2)[bar % 4]]:
            step = int(rng.choice((-4, -2, -1, 0, 1, 2, 4), p=(0.05, 0.2, 0.25, 0.1, 0.2, 0.15, 0.05)))
            allowed = [(chord.root + t) % 12 for t in TONES["m" if chord.minor else ""]]
            pitch = _nearest(pitch + step, allowed if onset % 2 < 0.01 else list(sheet.scale), low)
            at = (bar * sheet.beats_per_bar + onset) * beat_s + float(rng.normal(0, 0.008))
            start.append(max(0.0, at))
            end.append(start[-1] + length * beat_s * float(rng.uniform(0.7, 1.0)))
            pitches.append(pitch)
            velocity.append(int(np.clip(rng.normal(92, 10), 40, 127)))
    order = np.argsort(start, kind="stable")
    return Part(program, False, np.array(start)[order], np.array(end)[order], np.array(pitches)[order],
                np.array(velocity)[order])  # fmt: skip


def bass_line(rng: np.random.Generator, sheet: Sheet) -> Part:
    """Roots, fifths and octaves in one repeated rhythm, for the grooves that leave the bass out."""
    beat_s, lowest = 60.0 / sheet.tempo_bpm, int(rng.integers(28, 34))
    rhythm = _rhythm(rng, sheet.beats_per_bar)
    steps = [0, *(int(s) for s in rng.choice((0, 0, 7, 12), size=len(rhythm)))]
    start, end, pitches, velocity = [], [], [], []
    for bar, chord in enumerate(sheet.chords):
        for (onset, length), step in zip(rhythm, steps, strict=False):
            start.append((bar * sheet.beats_per_bar + onset) * beat_s)
            end.append(start[-1] + 0.9 * length * beat_s)
            pitches.append(lowest + (chord.root - lowest) % 12 + step)
            velocity.append(int(np.clip(rng.normal(96, 8), 40, 127)))
    return Part(33, False, np.array(start), np.array(end), np.array(pitches), np.array(velocity))


def _rhythm(rng: np.random.Generator, beats: int) -> list[tuple[float, float]]:
    notes: list[tuple[float, float]] = []
    at = 0.0
    while at < beats:
        length = float(rng.choice((0.5, 1.0, 1.5, 2.0), p=(0.45, 0.35, 0.1, 0.1)))
        length = min(length, beats - at)
        if rng.random() < 0.8 or not notes:
            notes.append((at, length))
        at += length
    return notes


def _nearest(pitch: int, classes: list[int], low: int) -> int:
    candidates = [p for p in range(low, low + 22) if p % 12 in classes]
    return min(candidates, key=lambda p: (abs(p - pitch), p))
