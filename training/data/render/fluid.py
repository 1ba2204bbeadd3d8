"""FluidSynth, by ctypes: soundfonts to float audio, one persistent synthesizer a font.

A binding of our own because the float renderer (`fluid_synth_write_float`) is what keeps quiet stems free of 16-bit
steps, and because the order of a reset decides whether the last stem leaks into the next one.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .score import Part

BLOCK = 64
"""FluidSynth computes in blocks of 64 samples: events fall on block borders, and so must every render's length."""
CHANNELS = 16
DRUM_CHANNEL = 9


class FluidSynthError(RuntimeError):
    """The library or a soundfont is missing or refused."""


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL:
    name = ctypes.util.find_library("fluidsynth")
    if name is None:
        raise FluidSynthError("libfluidsynth is not installed (Debian: libfluidsynth3)")
    lib = ctypes.CDLL(name)
    pointer, integer, text = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
    for function, result, arguments in (
        ("new_fluid_settings", pointer, []),
        ("fluid_settings_setnum", integer, [pointer, text, ctypes.c_double]),
        ("fluid_settings_setint", integer, [pointer, text, integer]),
        ("delete_fluid_settings", None, [pointer]),
        ("new_fluid_synth", pointer, [pointer]),
        ("delete_fluid_synth", None, [pointer]),
        ("fluid_synth_sfload", integer, [pointer, text, integer]),
        ("fluid_synth_noteon", integer, [pointer, integer, integer, integer]),
        ("fluid_synth_noteoff", integer, [pointer, integer, integer]),
        ("fluid_synth_cc", integer, [pointer, integer, integer, integer]),
        ("fluid_synth_pitch_bend", integer, [pointer, integer, integer]),
        ("fluid_synth_program_change", integer, [pointer, integer, integer]),
        ("fluid_synth_all_sounds_off", integer, [pointer, integer]),
        ("fluid_synth_system_reset", integer, [pointer]),
        ("fluid_synth_write_float", integer, [pointer, integer, pointer, integer, integer, pointer, integer, integer]),
        ("fluid_set_log_function", pointer, [integer, pointer, pointer]),
    ):
        entry = getattr(lib, function)
        entry.restype, entry.argtypes = result, arguments
    for level in range(5):  # missing presets are expected: fonts differ, FluidSynth falls back by itself
        lib.fluid_set_log_function(level, None, None)
    return lib


class FluidSynth:
    """One soundfont, ready to render stem after stem. Not thread-safe; one per process and font."""

    def __init__(self, soundfont: Path, sample_rate_hz: int) -> None:
        self._synth: Any = None
        self._lib = _library()
        self._settings = self._lib.new_fluid_settings()
        self._lib.fluid_settings_setnum(self._settings, b"synth.sample-rate", float(sample_rate_hz))
        self._lib.fluid_settings_setnum(self._settings, b"synth.gain", 0.4)
        for switch in (b"synth.reverb.active", b"synth.chorus.active"):  # both are on by default
            self._lib.fluid_settings_setint(self._settings, switch, 0)
        self._synth = self._lib.new_fluid_synth(self._settings)
        if self._lib.fluid_synth_sfload(self._synth, str(soundfont).encode(), 1) < 0:
            raise FluidSynthError(f"cannot load the soundfont {soundfont}")
        self._sample_rate_hz = sample_rate_hz

    def __del__(self) -> None:
        if self._synth is not None:
            self._lib.delete_fluid_synth(self._synth)
            self._lib.delete_fluid_settings(self._settings)

    def render(self, parts: Sequence[Part], samples: int) -> NDArray[np.float32]:
        """(2, samples); independent of whatever was rendered before."""
        self._reset()
        blocks = -(-samples // BLOCK)
        audio_CL = np.zeros((2, blocks * BLOCK), np.float32)
        at = 0
        for block, _, call in self._events(parts, blocks):
            if block > at:
                self._write(audio_CL, at, block)
                at = block
            self._play(call)
        self._write(audio_CL, at, blocks)
        return audio_CL[:, :samples]

    def _events(self, parts: Sequence[Part], blocks: int) -> list[tuple[int, int, tuple[str, int, int, int]]]:
        """(block, rank, call), sorted; nothing beyond the end is sent. Releases go before attacks of the same block."""
        free = [c for c in range(CHANNELS) if c != DRUM_CHANNEL]
        events: list[tuple[int, int, tuple[str, int, int, int]]] = []

        def at(time_s: float) -> int:
            return max(0, round(time_s * self._sample_rate_hz / BLOCK))

        for part in parts:
            channel = DRUM_CHANNEL if part.is_drum else free.pop(0)
            events.append((0, 0, ("program", channel, part.program, 0)))
            events += [(at(t), 2, ("control", channel, n, v)) for t, n, v in part.controls]
            events += [(at(t), 3, ("bend", channel, int(np.clip(v + 8192, 0, 16383)), 0)) for t, v in part.bends]
            notes = zip(part.start_s, part.end_s, part.pitch, part.velocity, strict=True)
            for start_s, end_s, pitch, velocity in notes:
                on = at(start_s)
                events.append((on, 4, ("on", channel, int(pitch), int(max(1, velocity)))))
                events.append((max(on + 1, at(end_s)), 1, ("off", channel, int(pitch), 0)))
        return sorted((e for e in events if e[0] < blocks), key=lambda e: e[:2])

    def _play(self, call: tuple[str, int, int, int]) -> None:
        kind, channel, first, second = call
        if kind == "on":
            self._lib.fluid_synth_noteon(self._synth, channel, first, second)
        elif kind == "off":
            self._lib.fluid_synth_noteoff(self._synth, channel, first)
        elif kind == "control":
            self._lib.fluid_synth_cc(self._synth, channel, first, second)
        elif kind == "bend":
            self._lib.fluid_synth_pitch_bend(self._synth, channel, first)
        else:
            self._lib.fluid_synth_program_change(self._synth, channel, first)

    def _reset(self) -> None:
        """Silence first, then render so that the voices really end, then reset: any other order leaks ringing notes."""
        for channel in range(CHANNELS):
            self._lib.fluid_synth_all_sounds_off(self._synth, channel)
        self._write(np.zeros((2, 4 * BLOCK), np.float32), 0, 4)
        self._lib.fluid_synth_system_reset(self._synth)

    def _write(self, audio_CL: NDArray[np.float32], begin: int, end: int) -> None:
        if end <= begin:
            return
        left, right = (audio_CL[c].ctypes.data for c in (0, 1))
        self._lib.fluid_synth_write_float(
            self._synth, (end - begin) * BLOCK, left, begin * BLOCK, 1, right, begin * BLOCK, 1
        )
