"""Random pitched instruments for every stem, on top of `synthesis`: plucked, struck, keyed, blown, synthetic."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .mixing import SAMPLE_RATE_HZ
from .synthesis import (
    Audio,
    Note,
    Voice,
    body_response,
    draw_string,
    highpass,
    log_uniform,
    lowpass,
    normalised,
    pluck,
)

HIGHEST_PARTIAL_HZ = 14_000.0


def draw_voice(rng: np.random.Generator, stem: str, program: int) -> Voice:
    """A random instrument for a stem; `program` (General MIDI) steers it where one stem holds very unlike families."""
    if stem == "bass":
        return _synth_bass(rng) if program >= 38 or rng.random() < 0.2 else _string_bass(rng)
    if stem == "guitar":
        return _guitar(rng, muted=program == 28)
    if stem == "piano":
        chance = rng.random()
        return _electric_piano(rng) if chance < 0.45 else _piano(rng) if chance < 0.85 else _clavinet(rng)
    family = program // 8
    if family == 1:
        return _bells(rng)
    if family == 2:
        return _organ(rng)
    if family in (5, 6, 11, 12):
        return _pad(rng)
    return _lead(rng) if rng.random() < 0.6 else _blown(rng)


def _string_bass(rng: np.random.Generator) -> Voice:
    string = draw_string(rng, bass=True, muted=rng.random() < 0.25)
    body = body_response(rng, 60, 900, 12, float(rng.uniform(0.1, 0.6)))
    return Voice("plucked bass", lambda f, s, r: pluck(string, f, s, r), 0.06, float(rng.uniform(0.8, 1.6)), body)


def _guitar(rng: np.random.Generator, muted: bool) -> Voice:
    string = draw_string(rng, bass=False, muted=muted)
    electric = string.pickup_position > 0
    body = body_response(rng, 90, 4500, 40, float(rng.uniform(0.05, 0.3) if electric else rng.uniform(0.3, 1.2)))
    detune = float(rng.normal(0, 1.5)) if rng.random() < 0.2 else 0.0  # twelve strings

    def note(frequency_hz: float, seconds: float, noise: np.random.Generator) -> Audio:
        sound = pluck(string, frequency_hz, seconds, noise)
        return sound + pluck(string, 2 * frequency_hz + detune, seconds, noise) * np.float32(0.5) if detune else sound

    return Voice("plucked guitar", note, log_uniform(rng, 0.03, 0.2), float(rng.uniform(0.7, 1.5)), body)


def _clavinet(rng: np.random.Generator) -> Voice:
    string = draw_string(rng, bass=False)
    return Voice("plucked keys", lambda f, s, r: highpass(pluck(string, f, s, r), 120), 0.04, 1.0)


def partials(
    frequency_hz: NDArray[np.float64],
    level: NDArray[np.float64],
    decay_s: NDArray[np.float64],
    seconds: float,
    rng: np.random.Generator,
) -> Audio:
    """Sum of exponentially decaying sines; each is computed only while it is above -70 dB of its start."""
    count = round(seconds * SAMPLE_RATE_HZ)
    out = np.zeros(count, np.float32)
    time = np.arange(count, dtype=np.float32) / np.float32(SAMPLE_RATE_HZ)
    for f, a, d in zip(frequency_hz, level, decay_s, strict=True):
        if f >= HIGHEST_PARTIAL_HZ or abs(a) < 1e-4:
            continue
        until = min(count, max(1, round(8 * d * SAMPLE_RATE_HZ)))
        t = time[:until]
        phase = np.float32(2 * np.pi * f) * t + np.float32(rng.uniform(0, 2 * np.pi))
        out[:until] += np.float32(a) * np.exp(t * np.float32(-1 / d)) * np.sin(phase)
    return out


def _piano(rng: np.random.Generator) -> Voice:
    """Additive: stretched partials, strike position comb, pairs of detuned strings, a thump."""
    stretch, tilt = log_uniform(rng, 1e-4, 8e-4), float(rng.uniform(0.7, 1.6))
    strike, decay, detune = float(rng.uniform(0.08, 0.2)), log_uniform(rng, 1.0, 4.0), float(rng.uniform(0, 0.0008))
    thump, thump_hz = float(rng.uniform(0.0, 0.5)), log_uniform(rng, 80, 300)

    def note(frequency_hz: float, seconds: float, noise: np.random.Generator) -> Audio:
        number = np.arange(1, 1 + int(np.clip(6000 / frequency_hz, 3, 28)))
        partial_hz = frequency_hz * number * np.sqrt(1 + stretch * number**2)
        level = number**-tilt * (0.15 + np.abs(np.sin(np.pi * strike * number)))
        life = decay * (220 / frequency_hz) ** 0.5 / (1 + 0.25 * number)
        sound = partials(partial_hz, level, life, seconds, noise)
        if detune:
            few = number <= 6
            sound += partials(partial_hz[few] * (1 + detune), level[few] * 0.7, life[few] * 1.5, seconds, noise)
        count = min(len(sound), SAMPLE_RATE_HZ // 20)
        knock = lowpass(noise.normal(size=count).astype(np.float32), thump_hz * 4)
        sound[:count] += knock * np.exp(-np.arange(count, dtype=np.float32) / 400) * np.float32(thump)
        sound[:32] *= np.linspace(0, 1, min(32, len(sound)), dtype=np.float32)
        return normalised(sound)

    body = body_response(rng, 70, 3000, 60, float(rng.uniform(0.2, 0.9)))
    return Voice("additive piano", note, log_uniform(rng, 0.08, 0.4), float(rng.uniform(0.9, 1.8)), body)


def _electric_piano(rng: np.random.Generator) -> Voice:
    """Frequency modulation (Chowning 1973) with two carriers: a tine at a high ratio over a soft fundamental."""
    ratio, index = float(rng.choice((1.0, 2.0, 3.0, 7.0, 14.0))), log_uniform(rng, 0.4, 4.0)
    index_decay, decay = log_uniform(rng, 0.08, 0.8), log_uniform(rng, 0.6, 3.0)
    second, tremolo_hz, depth = float(rng.uniform(0, 0.5)), float(rng.uniform(3, 7)), float(rng.choice((0, 0, 0.2)))

    def note(frequency_hz: float, seconds: float, noise: np.random.Generator) -> Audio:
        t = np.arange(round(seconds * SAMPLE_RATE_HZ), dtype=np.float32) / np.float32(SAMPLE_RATE_HZ)
        base = np.float32(2 * np.pi * frequency_hz) * t
        high = ratio if ratio * frequency_hz < 6000 else 1.0
        swing = np.float32(index * min(1.0, (400 / frequency_hz) ** 0.5)) * np.exp(-t / np.float32(index_decay))
        sound = np.sin(base + swing * np.sin(np.float32(high) * base + np.float32(noise.uniform(0, 6))))
        sound += np.float32(second) * np.sin(2 * base) * np.exp(-t / np.float32(decay * 0.4))
        sound *= np.exp(-t / np.float32(decay * (220 / frequency_hz) ** 0.4))
        if depth:
            sound *= 1 - np.float32(depth) * np.sin(np.float32(2 * np.pi * tremolo_hz) * t)
        sound[:64] *= np.linspace(0, 1, min(64, len(sound)), dtype=np.float32)
        return normalised(sound)

    return Voice("FM piano", note, log_uniform(rng, 0.05, 0.25), float(rng.uniform(0.8, 1.6)))


def _bells(rng: np.random.Generator) -> Voice:
    ratios = (
        np.sort(np.concatenate([[1.0], rng.uniform(1.8, 9.5, 6)]))
        if rng.random() < 0.5
        else np.array((1.0, 3.93, 9.2, 4.0, 10.0))
    )  # fmt: skip  (a marimba bar)
    level, decay = rng.uniform(0.1, 1, len(ratios)) / ratios**0.5, log_uniform(rng, 0.15, 2.0)

    def note(frequency_hz: float, seconds: float, noise: np.random.Generator) -> Audio:
        return normalised(partials(frequency_hz * ratios, level, decay / ratios**0.7, seconds, noise))

    return Voice("struck bar", note, 0.3, 1.2)


def _sustained(make: Note, attack_s: float) -> Note:
    def note(frequency_hz: float, seconds: float, noise: np.random.Generator) -> Audio:
        sound = make(frequency_hz, seconds, noise)
        count = min(len(sound), max(16, round(attack_s * SAMPLE_RATE_HZ)))
        sound[:count] *= np.linspace(0, 1, count, dtype=np.float32)
        return normalised(sound)

    return note


def _organ(rng: np.random.Generator) -> Voice:
    drawbars = np.array((0.5, 1.5, 1, 2, 3, 4, 5, 6, 8))
    level = rng.uniform(0, 1, 9) * (rng.random(9) < 0.6) + np.eye(9)[2]
    rotor_hz, depth = float(rng.uniform(0.7, 7)), float(rng.uniform(0, 0.3))

    def make(frequency_hz: float, seconds: float, noise: np.random.Generator) -> Audio:
        sound = partials(frequency_hz * drawbars, level, np.full(9, 1e3), seconds, noise)
        t = np.arange(len(sound), dtype=np.float32) / np.float32(SAMPLE_RATE_HZ)
        return np.asarray(sound * (1 + np.float32(depth) * np.sin(np.float32(2 * np.pi * rotor_hz) * t)), np.float32)

    return Voice("drawbar organ", _sustained(make, 0.01), 0.05, 0.3)


def _blown(rng: np.random.Generator) -> Voice:
    tilt, odd, breath = float(rng.uniform(0.8, 2.2)), float(rng.choice((1.0, 0.2))), float(rng.uniform(0.0, 0.15))
    vibrato_hz, depth = float(rng.uniform(4, 6.5)), float(rng.uniform(0, 0.004))

    def make(frequency_hz: float, seconds: float, noise: np.random.Generator) -> Audio:
        t = np.arange(round(seconds * SAMPLE_RATE_HZ), dtype=np.float32) / np.float32(SAMPLE_RATE_HZ)
        bend = depth * frequency_hz / vibrato_hz * np.sin(2 * np.pi * vibrato_hz * t) * np.minimum(t * 2, 1)
        base = np.float32(2 * np.pi) * (np.float32(frequency_hz) * t + bend.astype(np.float32))
        sound = np.zeros_like(t)
        for k in range(1, 1 + int(np.clip(9000 / frequency_hz, 2, 14))):
            sound += np.float32(k**-tilt * (odd if k % 2 == 0 else 1.0)) * np.sin(k * base)
        air = lowpass(noise.normal(size=len(t)).astype(np.float32), 4 * frequency_hz)
        return np.asarray(sound + air * np.float32(breath), np.float32)

    return Voice("blown pipe", _sustained(make, log_uniform(rng, 0.02, 0.12)), 0.1, 0.8)


def saw(frequency_hz: float, count: int, phase: float, pulse: float) -> Audio:
    """Sawtooth, or a pulse of that width when `pulse` > 0, band-limited by a polynomial step (PolyBLEP)."""
    step = frequency_hz / SAMPLE_RATE_HZ

    def ramp(offset: float) -> NDArray[np.float64]:
        p = (offset + step * np.arange(count)) % 1.0
        wave = np.asarray(2 * p - 1, np.float64)
        low, high = p < step, p > 1 - step
        x = p[low] / step
        wave[low] -= x + x - x * x - 1
        x = (p[high] - 1) / step
        wave[high] -= x * x + x + x + 1
        return wave

    wave = ramp(phase) - ramp(phase + pulse) if pulse > 0 else ramp(phase)
    return wave.astype(np.float32)


def _subtractive(rng: np.random.Generator, voices: int, cutoff_octaves: tuple[float, float], decay_s: float) -> Note:
    """Oscillators into a low-pass whose envelope is a cross-fade between a bright and a dark copy."""
    pulse = float(rng.choice((0.0, 0.5, rng.uniform(0.1, 0.4))))
    spread = float(rng.uniform(0.0005, 0.006)) if voices > 1 else 0.0
    bright, dark = (float(np.exp2(o)) for o in (cutoff_octaves[1], cutoff_octaves[0]))

    def make(frequency_hz: float, seconds: float, noise: np.random.Generator) -> Audio:
        count = round(seconds * SAMPLE_RATE_HZ)
        detune = 1 + spread * np.linspace(-1, 1, voices) if voices > 1 else np.ones(1)
        raw = np.sum([saw(frequency_hz * d, count, float(noise.uniform()), pulse) for d in detune], axis=0)
        envelope = np.exp(-np.arange(count, dtype=np.float32) / np.float32(decay_s * SAMPLE_RATE_HZ))
        cutoff = max(120.0, frequency_hz)
        mixed = lowpass(raw, bright * cutoff) * envelope + lowpass(raw, dark * cutoff) * (1 - envelope)
        return np.asarray(mixed, np.float32)

    return make


def _synth_bass(rng: np.random.Generator) -> Voice:
    low = float(rng.uniform(0.5, 3))
    make = _subtractive(
        rng, int(rng.integers(1, 3)), (low, low + float(rng.uniform(0, 3))), log_uniform(rng, 0.05, 0.5)
    )
    return Voice("subtractive bass", _sustained(make, 0.003), 0.04, 0.8)


def _lead(rng: np.random.Generator) -> Voice:
    low = float(rng.uniform(1.5, 3.5))
    make = _subtractive(rng, int(rng.integers(1, 4)), (low, low + float(rng.uniform(0, 2))), log_uniform(rng, 0.1, 1.0))
    return Voice("subtractive lead", _sustained(make, log_uniform(rng, 0.004, 0.05)), 0.1, 0.7)


def _pad(rng: np.random.Generator) -> Voice:
    low = float(rng.uniform(1, 3))
    make = _subtractive(rng, 3, (low + 1, low), log_uniform(rng, 0.3, 1.5))
    return Voice("subtractive pad", _sustained(make, log_uniform(rng, 0.03, 0.3)), log_uniform(rng, 0.1, 0.4), 0.6)
