"""Drum kits made of arithmetic: swept sines, modes and filtered noise, every kit with its own parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from .mixing import SAMPLE_RATE_HZ
from .score import Part
from .synthesis import Audio, bandpass, highpass, log_uniform, lowpass


class Piece(Enum):
    """What a General-MIDI drum key strikes."""

    KICK = "kick"
    SNARE = "snare"
    RIM = "rim"
    CLAP = "clap"
    CLOSED_HAT = "closed hat"
    OPEN_HAT = "open hat"
    LOW_TOM = "low tom"
    MID_TOM = "mid tom"
    HIGH_TOM = "high tom"
    CRASH = "crash"
    RIDE = "ride"
    SHAKER = "shaker"
    BELL = "bell"
    HAND = "hand drum"


PIECE_OF_KEY = {
    35: Piece.KICK, 36: Piece.KICK, 37: Piece.RIM, 38: Piece.SNARE, 39: Piece.CLAP, 40: Piece.SNARE,
    41: Piece.LOW_TOM, 42: Piece.CLOSED_HAT, 43: Piece.LOW_TOM, 44: Piece.CLOSED_HAT, 45: Piece.MID_TOM,
    46: Piece.OPEN_HAT, 47: Piece.MID_TOM, 48: Piece.HIGH_TOM, 49: Piece.CRASH, 50: Piece.HIGH_TOM, 51: Piece.RIDE,
    52: Piece.CRASH, 53: Piece.RIDE, 54: Piece.SHAKER, 55: Piece.CRASH, 56: Piece.BELL, 57: Piece.CRASH,
    58: Piece.SHAKER, 59: Piece.RIDE, 60: Piece.HAND, 61: Piece.HAND, 62: Piece.HAND, 63: Piece.HAND, 64: Piece.HAND,
    65: Piece.HAND, 66: Piece.HAND, 67: Piece.BELL, 68: Piece.BELL, 69: Piece.SHAKER, 70: Piece.SHAKER,
    73: Piece.SHAKER, 74: Piece.SHAKER, 75: Piece.RIM, 76: Piece.RIM, 77: Piece.RIM, 80: Piece.BELL, 81: Piece.BELL,
    82: Piece.SHAKER,
}  # fmt: skip
"""Keys that are not here (whistles, scrapers, effects) strike nothing."""

CHOKED_BY = {Piece.OPEN_HAT: Piece.CLOSED_HAT}
VARIANTS = 3

PAN = {
    Piece.CLOSED_HAT: 0.3, Piece.OPEN_HAT: 0.3, Piece.CRASH: -0.5, Piece.RIDE: 0.5, Piece.LOW_TOM: 0.5,
    Piece.MID_TOM: 0.1, Piece.HIGH_TOM: -0.4, Piece.SHAKER: -0.3, Piece.BELL: 0.4, Piece.HAND: -0.4, Piece.CLAP: 0.1,
}  # fmt: skip

Stroke = Callable[[np.random.Generator], Audio]
"""One hit at full velocity; the generator makes hits of one piece differ a little."""


@dataclass(frozen=True, slots=True)
class Kit:
    strokes: dict[Piece, Stroke]
    pan: dict[Piece, float]
    level: dict[Piece, float]


def draw_kit(rng: np.random.Generator) -> Kit:
    side = float(rng.choice((-1, 1))) * float(rng.uniform(0.2, 1))
    strokes = {
        Piece.KICK: _kick(rng),
        Piece.SNARE: _snare(rng),
        Piece.RIM: _modes(rng, (1, 1.8, 2.9), log_uniform(rng, 400, 1700), 0.015, 0.03),
        Piece.CLAP: _clap(rng),
        Piece.SHAKER: _noise(rng, (4000, 9000), (0.02, 0.08)),
        Piece.BELL: _modes(rng, (1, 1.48, 2.1, 3.3), log_uniform(rng, 500, 2500), 0.08, 0.0),
        **_toms(rng),
        **_cymbals(rng),
    }
    base = {Piece.KICK: 1.0, Piece.SNARE: 0.8, Piece.CLOSED_HAT: 0.3, Piece.OPEN_HAT: 0.35, Piece.CRASH: 0.45,
            Piece.RIDE: 0.3, Piece.SHAKER: 0.2, Piece.BELL: 0.25, Piece.RIM: 0.4}  # fmt: skip
    level = {p: base.get(p, 0.6) * log_uniform(rng, 0.6, 1.6) for p in strokes}
    return Kit(strokes, {p: PAN.get(p, 0.0) * side for p in strokes}, level)


def play_drums(rng: np.random.Generator, kit: Kit, part: Part, samples: int) -> NDArray[np.float32]:
    """(2, samples). An open hat is choked by the next closed one; what the kit lacks is not played."""
    hits = [
        (round(float(start) * SAMPLE_RATE_HZ), PIECE_OF_KEY[int(key)], int(key), float(velocity) / 127)
        for start, key, velocity in zip(part.start_s, part.pitch, part.velocity, strict=True)
        if PIECE_OF_KEY.get(int(key)) in kit.strokes
    ]
    mono = {piece: np.zeros(samples, np.float32) for piece in {h[1] for h in hits}}
    rendered = {(p, v): kit.strokes[p](rng) for p in sorted(mono, key=lambda p: p.value) for v in range(VARIANTS)}
    closed = np.array([at for at, piece, _, _ in hits if piece is Piece.CLOSED_HAT])
    for number, (at, piece, _, velocity) in enumerate(hits):
        stroke = rendered[piece, number % VARIANTS]
        length = min(len(stroke), samples - at)
        if piece in CHOKED_BY and len(closed) and (later := closed[closed > at]).size:
            length = min(length, int(later[0]) - at)
        if length > 0:
            mono[piece][at : at + length] += stroke[:length] * np.float32(velocity**1.5 * kit.level[piece])
    out_CL = np.zeros((2, samples), np.float32)
    for piece, audio in mono.items():
        angle = (kit.pan[piece] + 1) * np.pi / 4
        out_CL += audio * np.array([[np.cos(angle)], [np.sin(angle)]], np.float32)
    return out_CL


def _time(seconds: float) -> NDArray[np.float32]:
    return np.arange(round(seconds * SAMPLE_RATE_HZ), dtype=np.float32) / np.float32(SAMPLE_RATE_HZ)


def _white(rng: np.random.Generator, count: int) -> Audio:
    return rng.normal(size=count).astype(np.float32)


def _peaked(audio: NDArray[np.floating]) -> Audio:
    """Peak 1, with a fade over the last 5 ms so that a cut tail does not click."""
    audio = audio / max(1e-9, float(np.abs(audio).max()))
    tail = min(len(audio), SAMPLE_RATE_HZ // 200)
    audio[len(audio) - tail :] *= np.linspace(1, 0, tail)
    return audio.astype(np.float32)


def _sweep(t: NDArray[np.float32], end_hz: float, start_hz: float, fall_s: float) -> NDArray[np.float64]:
    """Phase of a sine that falls exponentially from start to end frequency."""
    phase = end_hz * t + (start_hz - end_hz) * fall_s * (1 - np.exp(-t / fall_s))
    return np.asarray(2 * np.pi * phase, np.float64)


def _kick(rng: np.random.Generator) -> Stroke:
    end, start, fall = float(rng.uniform(38, 75)), float(rng.uniform(120, 500)), log_uniform(rng, 0.008, 0.05)
    decay, click, click_hz = log_uniform(rng, 0.06, 0.35), float(rng.uniform(0, 0.5)), log_uniform(rng, 1500, 7000)
    drive = float(rng.uniform(0.5, 4))

    def stroke(noise: np.random.Generator) -> Audio:
        t = _time(min(0.9, 6 * decay))
        tone = np.tanh(drive * np.sin(_sweep(t, end, start * noise.uniform(0.95, 1.05), fall)) * np.exp(-t / decay))
        snap = lowpass(_white(noise, len(t)), click_hz) * np.exp(-t / 0.004) * click
        return _peaked(tone + snap)

    return stroke


def _snare(rng: np.random.Generator) -> Stroke:
    body_hz, body_decay = float(rng.uniform(140, 280)), log_uniform(rng, 0.03, 0.12)
    low, high = log_uniform(rng, 600, 2500), log_uniform(rng, 6000, 14000)
    wires_decay, wires = log_uniform(rng, 0.05, 0.25), float(rng.uniform(0.4, 1.6))

    def stroke(noise: np.random.Generator) -> Audio:
        t = _time(min(0.8, 6 * wires_decay))
        tone = np.sin(_sweep(t, body_hz, body_hz * 1.6, 0.01)) + 0.6 * np.sin(
            _sweep(t, body_hz * 1.59, body_hz * 2, 0.01)
        )
        rattle = bandpass(_white(noise, len(t)), low, high) * np.exp(-t / wires_decay) * wires
        return _peaked(
            tone * np.exp(-t / body_decay) + rattle + highpass(_white(noise, len(t)), 3000) * np.exp(-t / 0.003)
        )

    return stroke


def _clap(rng: np.random.Generator) -> Stroke:
    centre, decay, gaps = log_uniform(rng, 800, 2200), log_uniform(rng, 0.05, 0.2), rng.uniform(0.006, 0.014, 3)

    def stroke(noise: np.random.Generator) -> Audio:
        t = _time(6 * decay)
        envelope = np.exp(-t / decay) * 0.7
        for onset in np.concatenate([[0.0], np.cumsum(gaps)]):
            envelope = np.maximum(envelope * (t >= onset), np.where(t >= onset, np.exp(-(t - onset) / 0.006), 0))
        return _peaked(bandpass(_white(noise, len(t)), centre * 0.6, centre * 2.2) * envelope)

    return stroke


def _noise(rng: np.random.Generator, low_hz: tuple[float, float], decay_s: tuple[float, float]) -> Stroke:
    low, decay = log_uniform(rng, *low_hz), log_uniform(rng, *decay_s)

    def stroke(noise: np.random.Generator) -> Audio:
        t = _time(6 * decay)
        return _peaked(highpass(_white(noise, len(t)), low) * np.exp(-t / decay) * np.minimum(t / 0.005, 1))

    return stroke


def _modes(
    rng: np.random.Generator, ratios: tuple[float, ...], base_hz: float, decay_s: float, noise_level: float
) -> Stroke:
    decay = decay_s * log_uniform(rng, 0.6, 2)
    detuned = np.array(ratios) * (1 + rng.normal(0, 0.03, len(ratios)))

    def stroke(noise: np.random.Generator) -> Audio:
        t = _time(8 * decay)
        tone = sum(np.sin(2 * np.pi * base_hz * r * t + noise.uniform(0, 6)) * np.exp(-t * r / decay) for r in detuned)
        return _peaked(tone + _white(noise, len(t)) * np.exp(-t / 0.004) * noise_level * 10)

    return stroke


def _toms(rng: np.random.Generator) -> dict[Piece, Stroke]:
    base, decay, bend = float(rng.uniform(65, 110)), log_uniform(rng, 0.1, 0.4), float(rng.uniform(1.1, 1.8))
    skin = float(rng.uniform(0.05, 0.4))

    def tom(frequency_hz: float) -> Stroke:
        def stroke(noise: np.random.Generator) -> Audio:
            t = _time(min(1.2, 6 * decay))
            tone = np.sin(_sweep(t, frequency_hz, frequency_hz * bend, 0.03)) * np.exp(-t / decay)
            overtone = (
                0.3
                * np.sin(_sweep(t, frequency_hz * 1.58, frequency_hz * 1.58 * bend, 0.02))
                * np.exp(-t / (decay / 3))
            )
            return _peaked(tone + overtone + lowpass(_white(noise, len(t)), 3000) * np.exp(-t / 0.015) * skin)

        return stroke

    return {
        Piece.LOW_TOM: tom(base), Piece.MID_TOM: tom(base * 1.4), Piece.HIGH_TOM: tom(base * 1.9),
        Piece.HAND: tom(base * float(rng.uniform(2.2, 4))),
    }  # fmt: skip


def _cymbals(rng: np.random.Generator) -> dict[Piece, Stroke]:
    """Squares at inharmonic frequencies (as in the drum machines of 1980) blended with noise, high-passed."""
    frequencies = rng.uniform(250, 1100, 6) * float(rng.uniform(0.8, 1.6))
    metal, edge = float(rng.uniform(0.1, 0.9)), log_uniform(rng, 5000, 9000)

    def cymbal(decay_s: float, cutoff_hz: float, ping: float) -> Stroke:
        def stroke(noise: np.random.Generator) -> Audio:
            t = _time(min(2.5, 5 * decay_s))
            squares = np.sum([np.sign(np.sin(2 * np.pi * f * t + noise.uniform(0, 6))) for f in frequencies], axis=0)
            blend = metal * squares.astype(np.float32) / 3 + (1 - metal) * _white(noise, len(t))
            wash = highpass(blend, cutoff_hz, 3) * np.exp(-t / decay_s)
            stick = bandpass(blend, 2500, 6000) * np.exp(-t / 0.02) * ping
            return _peaked(wash + stick)

        return stroke

    return {
        Piece.CLOSED_HAT: cymbal(log_uniform(rng, 0.02, 0.07), edge, 0.1),
        Piece.OPEN_HAT: cymbal(log_uniform(rng, 0.15, 0.5), edge, 0.1),
        Piece.CRASH: cymbal(log_uniform(rng, 0.4, 1.1), edge * 0.5, 0.3),
        Piece.RIDE: cymbal(log_uniform(rng, 0.3, 0.8), edge * 0.8, float(rng.uniform(0.5, 1.5))),
    }
