"""Notes and controllers of one instrument, in seconds, apart from any file format and any sound."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

STEMS = ("bass", "drums", "guitar", "piano", "other")
"""Order of the stems everywhere in this package."""

KEPT_CONTROLS = frozenset({1, 6, 7, 10, 11, 38, 64, 100, 101})
"""Modulation, data entry, volume, pan, expression, sustain, RPN. Sends (91, 93) would switch reverb and chorus on."""

FIRST_EFFECT_PROGRAM = 112  # percussive and sound-effect programs belong to no stem


class ScoreError(ValueError):
    """A MIDI file that cannot be used as a song."""


@dataclass(frozen=True, slots=True)
class Part:
    """One instrument. Times in seconds; controls are (time, number, value), bends are (time, -8192..8191)."""

    program: int
    is_drum: bool
    start_s: NDArray[np.float64]
    end_s: NDArray[np.float64]
    pitch: NDArray[np.int64]
    velocity: NDArray[np.int64]
    controls: tuple[tuple[float, int, int], ...] = field(default=())
    bends: tuple[tuple[float, int], ...] = field(default=())

    def __len__(self) -> int:
        return len(self.start_s)

    @property
    def stem(self) -> str | None:
        return stem_of_program(self.program, self.is_drum)

    def sounding_s(self) -> float:
        return float(np.sum(self.end_s - self.start_s)) if len(self) else 0.0

    def cut(self, begin_s: float, end_s: float) -> Part:
        """What sounds in [begin, end), moved to begin at 0; controllers keep the last value they had before."""
        keep = (self.start_s < end_s) & (self.end_s > begin_s + 0.02)
        early = {number: value for time, number, value in self.controls if time <= begin_s}
        late = tuple((t - begin_s, n, v) for t, n, v in self.controls if begin_s < t < end_s)
        bent = [value for time, value in self.bends if time <= begin_s][-1:]
        return replace(
            self,
            start_s=np.maximum(self.start_s[keep] - begin_s, 0.0),
            end_s=np.minimum(self.end_s[keep], end_s) - begin_s,
            pitch=self.pitch[keep],
            velocity=self.velocity[keep],
            # RPN select (101, 100) has to precede the data entry (6, 38) it addresses
            controls=tuple((0.0, n, early[n]) for n in sorted(early, key=_control_order)) + late,
            bends=tuple((0.0, v) for v in bent) + tuple((t - begin_s, v) for t, v in self.bends if begin_s < t < end_s),
        )

    def transposed(self, semitones: int) -> Part:
        return self if self.is_drum else replace(self, pitch=np.clip(self.pitch + semitones, 0, 127))

    def stretched(self, factor: float) -> Part:
        """Times multiplied by `factor`; above 1 is slower."""
        return replace(
            self,
            start_s=self.start_s * factor,
            end_s=self.end_s * factor,
            controls=tuple((t * factor, n, v) for t, n, v in self.controls),
            bends=tuple((t * factor, v) for t, v in self.bends),
        )


def _control_order(number: int) -> int:
    return {101: 0, 100: 1, 6: 2, 38: 3}.get(number, 4 + number)


def stem_of_program(program: int, is_drum: bool) -> str | None:
    """General-MIDI program 0..127 to a stem; None for sound effects, which belong to none."""
    if is_drum:
        return "drums"
    if program < 8:
        return "piano"
    if 24 <= program < 32:
        return "guitar"
    if 32 <= program < 40:
        return "bass"
    return None if program >= FIRST_EFFECT_PROGRAM else "other"


def read_midi(data: bytes) -> list[Part]:
    """Parts of a standard MIDI file, one per (track, channel, program).

    symusic is used because it reads files with broken key signatures that stricter parsers refuse.
    """
    import symusic

    try:
        score = symusic.Score.from_midi(data, ttype="second")
    except Exception as error:  # symusic raises bare RuntimeErrors from C++
        raise ScoreError(f"not a readable MIDI file: {error}") from error
    parts = []
    for track in score.tracks:
        notes, controls, bends = track.notes.numpy(), track.controls.numpy(), track.pitch_bends.numpy()
        if len(notes["time"]) == 0:
            continue
        start = notes["time"].astype(np.float64)
        order = np.lexsort((notes["pitch"], start))
        kept = np.isin(controls["number"], list(KEPT_CONTROLS))
        parts.append(
            Part(
                program=int(track.program),
                is_drum=bool(track.is_drum),
                start_s=start[order],
                end_s=(start + np.maximum(notes["duration"].astype(np.float64), 0.03))[order],
                pitch=notes["pitch"].astype(np.int64)[order],
                velocity=notes["velocity"].astype(np.int64)[order],
                controls=tuple(
                    (float(t), int(n), int(v))
                    for t, n, v in zip(
                        controls["time"][kept], controls["number"][kept], controls["value"][kept], strict=True
                    )
                ),
                bends=tuple((float(t), int(v)) for t, v in zip(bends["time"], bends["value"], strict=True)),
            )
        )
    if not parts:
        raise ScoreError("a MIDI file without notes")
    return parts
