"""The notes of the demo song: thirteen bars in D major, written for this project. Positions and lengths in beats."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from .score import Part

TEMPO_BPM = 108.0
BEATS_PER_BAR = 4
BARS = 12
"""Bars in time; a last chord rings in the bar after them."""
LAST_CHORD_BEATS = 5.0


@dataclass(frozen=True, slots=True)
class Note:
    beat: float
    beats: float
    pitch: int
    velocity: int


Notes = Iterable[Note]


@dataclass(frozen=True, slots=True)
class Chord:
    """A bass note, the piano's close voicing, and six (or fewer) guitar strings from low to high."""

    bass: int
    piano: tuple[int, ...]
    guitar: tuple[int, ...]
    fifth: int


D = Chord(38, (62, 66, 69, 76), (50, 57, 62, 66), 45)
A_OVER_CIS = Chord(37, (61, 64, 69, 73), (49, 52, 57, 61, 64), 40)
B_MINOR_7 = Chord(35, (62, 66, 69, 71), (47, 54, 57, 62, 66), 42)
G = Chord(43, (59, 62, 66, 69), (43, 47, 50, 55, 59, 67), 38)
E_MINOR_7 = Chord(40, (59, 62, 64, 67), (40, 47, 52, 55, 62, 64), 35)
D_OVER_FIS = Chord(42, (62, 66, 69, 74), (42, 50, 57, 62, 66), 45)
A_SUS = Chord(45, (57, 62, 64, 69), (45, 52, 57, 62, 64), 40)
A = Chord(45, (57, 61, 64, 69), (45, 52, 57, 61, 64), 40)

# (chord, first beat, beats): a verse, a bridge that starts on the second degree, the verse with a quicker cadence
CHANGES = (
    (D, 0, 4), (A_OVER_CIS, 4, 4), (B_MINOR_7, 8, 4), (G, 12, 4),
    (E_MINOR_7, 16, 4), (G, 20, 4), (D_OVER_FIS, 24, 4), (A_SUS, 28, 2), (A, 30, 2),
    (D, 32, 4), (A_OVER_CIS, 36, 4), (B_MINOR_7, 40, 4), (G, 44, 2), (A, 46, 2),
)  # fmt: skip
END = float(BARS * BEATS_PER_BAR)
BRIDGE, LAST_VERSE = 16.0, 32.0

# (pitch, beats) one after the other from the bridge on; pitch 0 is a rest
TUNE = (
    (71, 1.0), (69, 0.5), (67, 0.5), (71, 1.5), (74, 0.5),
    (74, 1.5), (71, 0.5), (69, 1.0), (67, 1.0),
    (66, 1.0), (69, 0.5), (74, 1.5), (73, 0.5), (71, 0.5),
    (69, 2.0), (0, 0.5), (69, 0.5), (71, 0.5), (73, 0.5),
    (74, 1.5), (76, 0.5), (78, 1.5), (76, 0.5),
    (76, 1.0), (73, 0.5), (69, 1.5), (71, 0.5), (73, 0.5),
    (74, 1.5), (73, 0.5), (71, 1.0), (78, 1.0),
    (79, 1.0), (78, 0.5), (76, 0.5), (76, 1.5), (73, 0.5),
    (74, LAST_CHORD_BEATS - 1),
)  # fmt: skip

KICK, RIM, SNARE, LOW_TOM, MID_TOM, HIGH_TOM = 36, 37, 38, 45, 47, 50
CLOSED_HAT, OPEN_HAT, CRASH, RIDE = 42, 46, 49, 51


def bass() -> Iterator[Note]:
    """Root, an off-beat push, the fifth, and a step towards the next root."""
    following = [c for c, _, _ in CHANGES[1:]] + [D]
    for (chord, at, beats), after in zip(CHANGES, following, strict=True):
        yield Note(at, 1.4, chord.bass, 104)
        yield Note(at + 1.5, 0.45, chord.bass, 84)
        if beats == 4:
            yield Note(at + 2, 0.9, chord.fifth if at < BRIDGE else chord.bass + 12, 96)
            yield Note(at + 3, 0.45, chord.bass, 92)
            yield Note(at + 3.5, 0.45, after.bass + (2 if after.bass < chord.bass else -2), 88)
    yield Note(END, LAST_CHORD_BEATS, D.bass, 104)


def guitar() -> Iterator[Note]:
    """Picked in the verse, strummed in the bridge, both in the last verse."""
    for chord, at, beats in CHANGES:
        if at < BRIDGE or at >= LAST_VERSE:
            yield from _picked(chord, at, beats)
        if at >= BRIDGE:
            yield from _strummed(chord, at, beats)
    yield from strum(D.guitar, END, LAST_CHORD_BEATS, 100, 0.05)


def _picked(chord: Chord, at: float, beats: float) -> Iterator[Note]:
    strings = chord.guitar
    order = (0, 2, 3, 1, len(strings) - 1, 2, 3, 1)
    for step in range(round(beats * 2)):
        accent = 96 if step % 4 == 0 else 80
        yield Note(at + step / 2, min(1.6, beats - step / 2), strings[order[step % 8]], accent)


def _strummed(chord: Chord, at: float, beats: float) -> Iterator[Note]:
    quiet = -14 if at >= LAST_VERSE else 0
    for start, length, velocity, down in ((0, 1.4, 98, True), (1.5, 0.4, 78, False), (2, 0.9, 90, True),
                                          (3, 0.4, 84, True), (3.5, 0.45, 76, False)):  # fmt: skip
        if start < beats:
            strings = chord.guitar if down else chord.guitar[::-1][:4]
            yield from strum(strings, at + start, length, velocity + quiet)


def strum(strings: Iterable[int], at: float, beats: float, velocity: int, gap: float = 0.022) -> Iterator[Note]:
    for number, pitch in enumerate(strings):
        yield Note(at + number * gap, beats, pitch, velocity - 3 * number)


def piano() -> Iterator[Note]:
    """Long chords in the verse; off-beat answers afterwards."""
    for chord, at, beats in CHANGES:
        answers = ((0.0, 1.4, 84), (1.5, 0.9, 72), (2.5, 1.3, 78)) if at >= BRIDGE else ((0.0, 3.8, 76), (3.5, 0.4, 60))
        for start, length, velocity in answers:
            if start < beats:
                for pitch in chord.piano:
                    yield Note(at + start, min(length, beats - start), pitch, velocity)
        if at < BRIDGE:  # a turn in the right hand
            yield Note(at + 2.5, 0.5, chord.piano[-1] + 12, 66)
            yield Note(at + 3.0, 0.5, chord.piano[-2] + 12, 62)
    for number, pitch in enumerate((50, 57, *D.piano, 81)):
        yield Note(END + 0.03 * number, LAST_CHORD_BEATS, pitch, 84)


def lead() -> Iterator[Note]:
    at = BRIDGE
    for pitch, beats in TUNE:
        if pitch:
            yield Note(at, 0.94 * beats, pitch, 98 if beats >= 1 else 86)
        at += beats


def pad() -> Iterator[Note]:
    for chord, at, beats in CHANGES:
        for pitch in chord.piano[:3]:
            yield Note(at, beats, pitch, 70 if at < BRIDGE else 80)
    for pitch in D.piano[:3]:
        yield Note(END, LAST_CHORD_BEATS - 1, pitch, 70)


def drums() -> Iterator[Note]:
    for bar in range(BARS):
        at, fill = float(bar * BEATS_PER_BAR), bar % 4 == 3
        cymbal = RIDE if bar >= 8 else CLOSED_HAT
        for step in range(6 if fill else 8):
            opened = bar >= 4 and step == 7 and cymbal == CLOSED_HAT
            yield _hit(at + step / 2, OPEN_HAT if opened else cymbal, 92 if step % 2 == 0 else 64)
        for beat, velocity in ((0.0, 112), (2.0 if bar < 4 else 2.5, 100), (1.5, 70)):
            yield _hit(at + beat, KICK, velocity)
        back = RIM if bar < 3 else SNARE
        yield _hit(at + 1, back, 100)
        if fill:
            yield from _fill(at + 3, long=bar == 7)
        else:
            yield _hit(at + 3, back, 104)
        if bar in (4, 8):
            yield _hit(at, CRASH, 100)
    yield _hit(END, CRASH, 108)
    yield _hit(END, KICK, 112)


def _fill(at: float, long: bool) -> Iterator[Note]:
    if long:
        for number, key in enumerate((SNARE, SNARE, HIGH_TOM, HIGH_TOM)):
            yield _hit(at - 1 + number / 4, key, 78 + 6 * number)
    for number, key in enumerate((SNARE, HIGH_TOM, MID_TOM, LOW_TOM)):
        yield _hit(at + number / 4, key, 96 + 4 * number)


def _hit(beat: float, key: int, velocity: int) -> Note:
    return Note(beat, 0.2, key, velocity)


def part(notes: Notes, program: int, is_drum: bool, rng: np.random.Generator) -> Part:
    """In seconds, played by a person: some milliseconds early or late, no two notes equally loud."""
    ordered, beat_s = sorted(notes, key=lambda n: (n.beat, n.pitch)), 60.0 / TEMPO_BPM
    start_s = np.array([max(0.0, n.beat * beat_s + float(rng.normal(0, 0.004))) for n in ordered])
    return Part(
        program,
        is_drum,
        start_s,
        start_s + np.array([n.beats for n in ordered]) * beat_s,
        np.array([n.pitch for n in ordered]),
        np.clip([n.velocity + int(rng.integers(-4, 5)) for n in ordered], 1, 127),
    )
