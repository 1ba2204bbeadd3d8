"""Synthesizers of our own: every sound drawn from a space of parameters, so no two songs share an instrument.

They cover what soundfonts of one author cannot: a model that has heard only samples learns the samples. Notes are
rendered once per pitch and variant and reused, which is what makes a stem cost far less than its length.
Unit of time is the second, of frequency the hertz; audio is mono float32 unless the name ends in _CL.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, fftconvolve, sosfilt

from .mixing import SAMPLE_RATE_HZ
from .score import Part

Audio = NDArray[np.float32]
Note = Callable[[float, float, np.random.Generator], Audio]
"""(frequency_hz, seconds, rng) to one note at full velocity, mono."""

LONGEST_NOTE_S = 4.0
VARIANTS = 2


@dataclass(frozen=True, slots=True)
class Voice:
    """An instrument: how a note sounds, how fast it dies when released, how it answers to velocity."""

    name: str
    note: Note
    release_s: float
    velocity_power: float
    body: Audio | None = None


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def play_part(rng: np.random.Generator, voice: Voice, part: Part, samples: int) -> Audio:
    """One part on one voice, (samples,)."""
    out = np.zeros(samples, np.float32)
    needed: dict[int, float] = {}
    for pitch, start_s, end_s in zip(part.pitch, part.start_s, part.end_s, strict=True):
        needed[int(pitch)] = max(needed.get(int(pitch), 0.1), float(end_s - start_s))
    rendered: dict[tuple[int, int], Audio] = {}
    release = max(1, round(voice.release_s * SAMPLE_RATE_HZ))
    fade = np.exp(-5.0 * np.linspace(0, 1, release, dtype=np.float32)) * np.linspace(1, 0, release, dtype=np.float32)
    for number, (start_s, end_s, pitch, velocity) in enumerate(
        zip(part.start_s, part.end_s, part.pitch, part.velocity, strict=True)
    ):
        key = (int(pitch), number % VARIANTS)
        if key not in rendered:
            seconds = min(LONGEST_NOTE_S, needed[key[0]]) + voice.release_s
            rendered[key] = voice.note(440.0 * 2 ** ((key[0] - 69) / 12), seconds, rng)
        sound = rendered[key]
        begin = round(float(start_s) * SAMPLE_RATE_HZ)
        held = max(1, min(round(float(end_s - start_s) * SAMPLE_RATE_HZ), len(sound) - release))
        length = min(held + release, samples - begin)
        if length <= 0:
            continue
        note = sound[: held + release].copy()
        note[held:] *= fade[: len(note) - held]
        out[begin : begin + length] += note[:length] * np.float32((velocity / 127) ** voice.velocity_power)
    if voice.body is None:
        return out
    return np.asarray(fftconvolve(out, voice.body)[:samples], np.float32)


def body_response(rng: np.random.Generator, low_hz: float, high_hz: float, modes: int, wet: float) -> Audio:
    """Impulse response of a resonant box: a direct path and a few dozen decaying modes."""
    time = np.arange(round(0.12 * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    frequency = np.exp(rng.uniform(np.log(low_hz), np.log(high_hz), modes))[:, None]
    decay = 25.0 * (frequency / low_hz) ** 0.6
    ring = (rng.normal(size=(modes, 1)) * np.exp(-decay * time) * np.sin(2 * np.pi * frequency * time)).sum(0)
    ring *= wet / np.sqrt(np.sum(ring**2))
    ring[0] += 1.0
    return np.asarray(ring, np.float32)


def bandpass(audio: Audio, low_hz: float, high_hz: float, order: int = 2) -> Audio:
    sos = butter(order, (low_hz, min(high_hz, 0.49 * SAMPLE_RATE_HZ)), "bandpass", fs=SAMPLE_RATE_HZ, output="sos")
    return np.asarray(sosfilt(sos, audio), np.float32)


def lowpass(audio: Audio, cutoff_hz: float, order: int = 2) -> Audio:
    cutoff_hz = min(cutoff_hz, 0.45 * SAMPLE_RATE_HZ)
    sos = butter(order, cutoff_hz, "lowpass", fs=SAMPLE_RATE_HZ, output="sos")
    return np.asarray(sosfilt(sos, audio), np.float32)


def highpass(audio: Audio, cutoff_hz: float, order: int = 2) -> Audio:
    sos = butter(order, cutoff_hz, "highpass", fs=SAMPLE_RATE_HZ, output="sos")
    return np.asarray(sosfilt(sos, audio), np.float32)


# ----------------------------------------------------------------------------------------------- plucked strings


@dataclass(frozen=True, slots=True)
class String:
    """A plucked string (Karplus and Strong 1983, with the extensions of Jaffe and Smith 1983)."""

    decay_s: float  # time to -60 dB of the fundamental at 110 Hz
    damping: float  # 0 bright .. 0.95 dull: pole of the loop's low-pass
    pick_position: float  # 0 bridge .. 0.5 middle
    pickup_position: float  # 0 for an acoustic instrument
    brightness: float  # pole of the excitation's low-pass
    stiffness: float  # inharmonicity, added as dispersion of the loop
    noise: float  # share of noise in the excitation, the rest is a click


def draw_string(rng: np.random.Generator, bass: bool, muted: bool = False) -> String:
    return String(
        decay_s=log_uniform(rng, 0.25, 0.7) if muted else log_uniform(rng, 2.5, 12),
        damping=float(rng.uniform(0.5, 0.85)) if muted or bass else float(rng.uniform(0.02, 0.6)),
        pick_position=float(rng.uniform(0.05, 0.45)),
        pickup_position=float(rng.choice((0.0, rng.uniform(0.05, 0.3)))),
        brightness=float(rng.uniform(0.5, 0.95)) if bass else float(rng.uniform(0.0, 0.8)),
        stiffness=log_uniform(rng, 1e-5, 4e-4),
        noise=float(rng.uniform(0.2, 1.0)),
    )


def pluck(string: String, frequency_hz: float, seconds: float, rng: np.random.Generator) -> Audio:
    """The loop solved in closed form: y = excitation / (1 - loop), sampled on a circle inside the unit circle.

    One FFT replaces the sample-by-sample recursion; the damped circle (`shrink`) pushes the time aliasing of the
    string's ringing beyond the end 80 dB down, and the fractional delay is exact, so every pitch is in tune.
    """
    size = 1 << int(np.ceil(np.log2(seconds * SAMPLE_RATE_HZ + 4096)))
    shrink = np.log(1e4) / size
    omega = 2 * np.pi * np.arange(size // 2 + 1) / size
    z = np.exp(-1j * omega - shrink)  # z^-1 on the damped circle
    period = SAMPLE_RATE_HZ / frequency_hz
    smooth = (1 - string.damping) / (1 - string.damping * z)
    lag = string.damping / (1 - string.damping)  # the low-pass' delay at low frequency, taken off the loop
    harmonic = np.minimum(omega * period / (2 * np.pi), 60)
    delay = (period - lag) * (1 - 0.5 * string.stiffness * harmonic**2)
    loss = 10 ** (-3 / (string.decay_s * frequency_hz * (110 / frequency_hz) ** 0.6))
    loop = loss * smooth * np.exp(-1j * omega * delay - shrink * delay)
    burst = np.zeros(max(8, round(period)))
    burst[0] = 1.0
    burst = (1 - string.noise) * burst * 4 + string.noise * rng.normal(size=len(burst)) * 0.5
    excitation = np.fft.rfft(burst * np.exp(-shrink * np.arange(len(burst))), size)
    excitation = excitation * ((1 - string.brightness) / (1 - string.brightness * z))
    spectrum = excitation * (1 - z ** (string.pick_position * period)) / (1 - loop)
    if string.pickup_position > 0:
        spectrum = spectrum * (1 - 0.9 * z ** (string.pickup_position * period))
    count = round(seconds * SAMPLE_RATE_HZ)
    audio = np.fft.irfft(spectrum, size)[:count] * np.exp(shrink * np.arange(count))
    return normalised(audio)


def normalised(audio: NDArray[np.floating]) -> Audio:
    """The first half second at an RMS of 0.1, so that registers balance."""
    head = audio[: SAMPLE_RATE_HZ // 2]
    rms = float(np.sqrt(np.mean(head**2)))
    return (audio * (0.1 / rms if rms > 1e-9 else 0.0)).astype(np.float32)
