"""The demo song, by our own synthesizers alone: `python -m training.data.render.example_song OUT.flac`.

Nothing in it is sampled, so the recording is nobody's but ours (CC0). `--stems DIR` also writes the five stems at the
levels they have in the song.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy.signal import oaconvolve

from . import example_score, instruments, percussion
from .mixing import CEILING, SAMPLE_RATE_HZ, loudness_lufs
from .score import STEMS, Part
from .synthesis import Audio, String, Voice, body_response, highpass, lowpass, play_part, pluck

SECONDS = 30.0
FADE_S = 1.6
SEED = 20

ACOUSTIC_STRING = String(
    decay_s=7.0, damping=0.22, pick_position=0.18, pickup_position=0.0, brightness=0.25, stiffness=4e-5, noise=0.6
)
BASS_STRING = String(
    decay_s=6.0, damping=0.62, pick_position=0.25, pickup_position=0.12, brightness=0.75, stiffness=3e-5, noise=0.4
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Channel:
    """A strip of the mixer."""

    loudness_lufs: float
    pan: float  # -1 left .. 1 right
    room: float  # level of the reverberation below the direct sound, 0..1


CHANNELS = {
    "bass": Channel(loudness_lufs=-20.0, pan=0.0, room=0.03),
    "drums": Channel(loudness_lufs=-18.5, pan=0.0, room=0.10),
    "guitar": Channel(loudness_lufs=-22.0, pan=-0.45, room=0.16),
    "piano": Channel(loudness_lufs=-22.5, pan=0.40, room=0.20),
    "other": Channel(loudness_lufs=-21.5, pan=0.05, room=0.28),
}
PAD_LEVEL = 0.35


def render() -> dict[str, NDArray[np.float32]]:
    """The stems, (2, L) each, at the levels they have in the song: their sum peaks at -1 dBFS."""
    samples = round(SECONDS * SAMPLE_RATE_HZ)
    dry = {
        "bass": _both_sides(_mono("bass", _bass_voice(), example_score.bass(), samples)),
        "drums": _drums(samples),
        "guitar": _both_sides(_mono("guitar", _guitar_voice(), example_score.guitar(), samples)),
        "piano": _both_sides(_mono("piano", _drawn("piano", 0, 2), example_score.piano(), samples)),
        "other": _other(samples),
    }
    wet = {stem: mixed(dry[stem], CHANNELS[stem], _rng(stem, "room")) for stem in STEMS}
    fade = np.ones(samples, np.float32)
    tail = round(FADE_S * SAMPLE_RATE_HZ)
    fade[-tail:] = np.cos(np.linspace(0, np.pi / 2, tail)) ** 2
    peak = float(np.abs(np.sum(list(wet.values()), axis=0) * fade).max())
    return {stem: audio_CL * fade * np.float32(CEILING / peak) for stem, audio_CL in wet.items()}


def mixed(audio_CL: NDArray[np.float32], channel: Channel, rng: np.random.Generator) -> NDArray[np.float32]:
    """Balanced left to right, in a room, at the channel's loudness."""
    angle = (channel.pan + 1) * np.pi / 4
    placed_CL = audio_CL * np.array([[np.cos(angle)], [np.sin(angle)]], np.float32)
    response_CL = room_response(rng)
    wet_CL = oaconvolve(audio_CL, response_CL, axes=-1)[:, : audio_CL.shape[1]]
    strength = channel.room * np.sqrt(np.mean(placed_CL**2) / np.mean(wet_CL**2))
    out_CL = (placed_CL + strength * wet_CL).astype(np.float32)
    gain = 10 ** ((channel.loudness_lufs - loudness_lufs(out_CL)) / 20)
    return np.asarray(out_CL * gain, np.float32)


def room_response(rng: np.random.Generator, seconds: float = 0.9) -> NDArray[np.float32]:
    """(2, L): decaying noise after 12 ms, different in both ears, neither boomy nor hissing."""
    time = np.arange(round(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    tail_CL = rng.normal(size=(2, len(time))) * np.exp(-6.9 * time / seconds)
    tail_CL[:, : round(0.012 * SAMPLE_RATE_HZ)] = 0
    return np.stack([highpass(lowpass(side.astype(np.float32), 5500, 1), 250, 1) for side in tail_CL])


def _rng(*names: str) -> np.random.Generator:
    """A stream of its own for every use, so that a change of one instrument leaves the others as they were."""
    return np.random.default_rng([SEED, *"/".join(names).encode()])


def _both_sides(mono: Audio) -> NDArray[np.float32]:
    return np.stack([mono, mono])


def _mono(name: str, voice: Voice, notes: example_score.Notes, samples: int) -> Audio:
    return play_part(_rng(name, "sound"), voice, _part(name, notes), samples)


def _part(name: str, notes: example_score.Notes, is_drum: bool = False) -> Part:
    return example_score.part(notes, 0, is_drum, _rng(name, "hands"))


def _drawn(stem: str, program: int, number: int) -> Voice:
    return instruments.draw_voice(np.random.default_rng([SEED, number]), stem, program)


def _bass_voice() -> Voice:
    body = body_response(_rng("bass", "body"), 60, 900, 12, 0.25)
    return Voice("plucked bass", lambda f, s, r: pluck(BASS_STRING, f, s, r), 0.06, 1.0, body)


def _guitar_voice() -> Voice:
    body = body_response(_rng("guitar", "body"), 95, 4500, 40, 0.6)
    return Voice("plucked guitar", lambda f, s, r: pluck(ACOUSTIC_STRING, f, s, r), 0.12, 1.1, body)


def _drums(samples: int) -> NDArray[np.float32]:
    kit = percussion.draw_kit(np.random.default_rng([SEED, 3]))
    part = _part("drums", example_score.drums(), is_drum=True)
    return percussion.play_drums(_rng("drums", "sound"), kit, part, samples)


def _other(samples: int) -> NDArray[np.float32]:
    """A lead over a pad; the pad comes from both sides."""
    tune = _mono("lead", _drawn("other", 80, 7), example_score.lead(), samples)
    pads_CL = np.stack(
        [_mono(side, _drawn("other", 88, 6), example_score.pad(), samples) for side in ("pad left", "pad right")]
    )
    return _both_sides(tune) + pads_CL * np.float32(PAD_LEVEL)


def write(path: Path, audio_CL: NDArray[np.float32]) -> None:
    pcm = np.rint(audio_CL.T * 32767.0).astype(np.int16)
    soundfile.write(path, pcm, SAMPLE_RATE_HZ, "PCM_16", compression_level=1.0)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m training.data.render.example_song", description=__doc__)
    parser.add_argument("out", type=Path, metavar="OUT.flac")
    parser.add_argument("--stems", type=Path, metavar="DIR", help="also write the five stems there")
    options = parser.parse_args(arguments)
    stems = render()
    write(options.out, np.sum(list(stems.values()), axis=0))
    if options.stems:
        options.stems.mkdir(parents=True, exist_ok=True)
        for stem, audio_CL in stems.items():
            write(options.stems / f"{stem}.flac", audio_CL)
    return 0


if __name__ == "__main__":
    sys.exit(main())
