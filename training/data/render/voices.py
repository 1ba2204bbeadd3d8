"""Which sound plays a stem: a soundfont, a recorded kit, or one of our own synthesizers, and how far it is bent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray
from scipy.signal import oaconvolve

from . import instruments, percussion
from .fonts import draw_font, synth_of
from .kits import draw_recorded_kit
from .mixing import SAMPLE_RATE_HZ
from .score import Part
from .synthesis import body_response, log_uniform, play_part

OUR_LICENCE = "CC0-1.0"  # sound made of arithmetic alone


@dataclass(frozen=True, kw_only=True, slots=True)
class Palette:
    """Chances of a stem. Training bends its sounds; the other splits hear them as they are."""

    synthesised: float = 0.0
    recorded_kit: float = 0.0
    bent: float = 0.0
    coloured: float = 0.0


PALETTES = {
    "train": Palette(synthesised=0.3, recorded_kit=0.3, bent=0.35, coloured=0.25),
    "val": Palette(recorded_kit=0.3),
    "test-song": Palette(recorded_kit=0.3),
    "test-font": Palette(recorded_kit=0.5),
}
BEND_SEMITONES = (-4, -3, -2, -1, 1, 2, 3, 4)


def render_stem(
    rng: np.random.Generator, split: str, stem: str, parts: tuple[Part, ...], samples: int
) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """Dry audio (2, samples) and a record of what played it."""
    palette = PALETTES[split]
    bend = int(rng.choice(BEND_SEMITONES)) if rng.random() < palette.bent else 0
    colour = rng.random() < palette.coloured
    if bend:
        ratio = 2 ** (bend / 12)
        longer = int(np.ceil(samples * ratio)) + 64
        bent = tuple(p.stretched(ratio).transposed(-bend) for p in parts)
        slow_CL, record = play(rng, split, stem, bent, longer)
        audio_CL = unbend(slow_CL, ratio, samples)
        record["bent_semitones"] = bend
    else:
        audio_CL, record = play(rng, split, stem, parts, samples)
    if colour:
        audio_CL = coloured(rng, audio_CL)
    return audio_CL, record | {"programs": [p.program for p in parts]}


def unbend(slow_CL: NDArray[np.float32], ratio: float, samples: int) -> NDArray[np.float32]:
    """Played faster by `ratio`: pitch and time come back to the score's, but formants and attacks have moved.

    Drums are not transposed beforehand, so a kit is heard tuned by that much.
    """
    fast_LC = soxr.resample(slow_CL.T, ratio * SAMPLE_RATE_HZ, SAMPLE_RATE_HZ, "MQ")
    out_CL = np.zeros((2, samples), np.float32)
    length = min(samples, len(fast_LC))
    out_CL[:, :length] = fast_LC[:length].T
    return out_CL


def play(
    rng: np.random.Generator, split: str, stem: str, parts: tuple[Part, ...], samples: int
) -> tuple[NDArray[np.float32], dict[str, Any]]:
    palette, chance = PALETTES[split], rng.random()
    if chance < palette.synthesised:
        return synthesised(rng, stem, parts, samples)
    if stem == "drums" and chance < palette.synthesised + palette.recorded_kit:
        recorded = draw_recorded_kit(rng, split)
        if recorded is not None:
            source, kit = recorded
            audio_CL = np.sum([percussion.play_drums(rng, kit, p, samples) for p in parts], axis=0)
            return audio_CL, {"sound": source.name, "licence": source.licence}
    font = draw_font(rng, split)
    return synth_of(font).render(parts, samples), {"sound": font.name, "licence": font.licence}


def synthesised(
    rng: np.random.Generator, stem: str, parts: tuple[Part, ...], samples: int
) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """Our own instruments, one a part, each at a place of its own."""
    out_CL, names = np.zeros((2, samples), np.float32), []
    kit = percussion.draw_kit(rng) if stem == "drums" else None
    for part in parts:
        if kit is not None:
            out_CL += percussion.play_drums(rng, kit, part, samples)
            names.append("synthesised kit")
        else:
            voice = instruments.draw_voice(rng, stem, part.program)
            angle = (float(rng.uniform(-0.5, 0.5)) * (len(parts) > 1) + 1) * np.pi / 4
            mono = play_part(rng, voice, part, samples)
            out_CL += mono * np.array([[np.cos(angle)], [np.sin(angle)]], np.float32)
            names.append(voice.name)
    return out_CL, {"sound": "+".join(names), "licence": OUR_LICENCE}


def coloured(rng: np.random.Generator, audio_CL: NDArray[np.float32]) -> NDArray[np.float32]:
    """Through a random box (cabinet, body) or a random room, both as impulse responses drawn for this stem."""
    if rng.random() < 0.6:
        response = body_response(rng, 70, 6000, 50, float(rng.uniform(0.3, 1.2)))
        response_CL = np.stack([response, response])
    else:
        seconds, wet = log_uniform(rng, 0.08, 0.7), float(rng.uniform(0.1, 0.5))
        time = np.arange(round(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
        tail = rng.normal(size=(2, len(time))) * np.exp(-6.9 * time / seconds)
        tail[:, : round(float(rng.uniform(0.001, 0.02)) * SAMPLE_RATE_HZ)] = 0
        response_CL = tail * (wet / np.sqrt(np.sum(tail**2, axis=1, keepdims=True) + 1e-12))
        response_CL[:, 0] += 1.0
    wet_CL = oaconvolve(audio_CL, response_CL.astype(np.float32), axes=-1)
    return np.asarray(wet_CL[:, : audio_CL.shape[1]], np.float32)
