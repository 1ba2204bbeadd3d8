"""Recorded drum kits in Hydrogen's format, read into the same `Kit` as the synthesised ones."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile
import soxr

from .mixing import SAMPLE_RATE_HZ
from .percussion import PAN, Kit, Piece, Stroke
from .splits import sounds_of
from .synthesis import Audio

HYDROGEN_DIR = Path("/usr/share/hydrogen/data/drumkits")
LONGEST_HIT_S = 3.0


@dataclass(frozen=True, slots=True)
class KitSource:
    name: str
    licence: str


# Kits of one author stay on one side: the three by ArtemioLabs, the three by Emillo.
KNOWN_KITS = (
    KitSource("Audiophob", "CC0-1.0"),
    KitSource("ColomboAcousticDrumkit", "GPL-2.0-or-later"),
    KitSource("ElectricEmpireKit", "GPL-2.0-or-later"),
    KitSource("ForzeeStereo", "GPL-2.0"),
    KitSource("HardElectro1", "GPL-2.0-or-later"),
    KitSource("Millo-Drums_v.1", "GPL-2.0"),
    KitSource("Millo_MultiLayered2", "GPL-2.0"),
    KitSource("Millo_MultiLayered3", "GPL-2.0"),
    KitSource("VariBreaks", "GPL-2.0-or-later"),
    KitSource("rumpf_kit_z01_h2", "CC-BY-3.0"),
)
UNSEEN_KITS = (KitSource("BJA_Pacific", "CC-BY-SA-3.0"), KitSource("The Black Pearl 1.0", "GPL-2.0"))
KITS = (*KNOWN_KITS, *UNSEEN_KITS)

# First match wins: "Side Stick" before "snare", "ride bell" before "bell".
_NAMES = (
    (Piece.CLAP, r"clap"),
    (Piece.RIM, r"stick|rim click|\brim\b"),
    (Piece.KICK, r"kick|bass ?drum"),
    (Piece.SNARE, r"snare(?!.*roll)"),
    (Piece.OPEN_HAT, r"(hat|hh).*(op|semi)|ohh|open"),
    (Piece.CLOSED_HAT, r"hat|hh"),
    (Piece.LOW_TOM, r"tom ?low|low tom|floor"),
    (Piece.HIGH_TOM, r"tom ?hi|high tom|tom 1"),
    (Piece.MID_TOM, r"tom"),
    (Piece.RIDE, r"ride"),
    (Piece.CRASH, r"crash|china|splash|cymbal"),
    (Piece.SHAKER, r"tamb|marac|shak|cabasa"),
    (Piece.BELL, r"cowbell|agogo"),
    (Piece.HAND, r"conga|bongo"),
)
_REPLACEMENTS = {
    Piece.RIM: Piece.SNARE, Piece.CLAP: Piece.SNARE, Piece.OPEN_HAT: Piece.CLOSED_HAT, Piece.LOW_TOM: Piece.MID_TOM,
    Piece.HIGH_TOM: Piece.MID_TOM, Piece.MID_TOM: Piece.LOW_TOM, Piece.CRASH: Piece.RIDE, Piece.RIDE: Piece.CRASH,
}  # fmt: skip
_ESSENTIAL = (Piece.KICK, Piece.SNARE, Piece.CLOSED_HAT)


class KitError(ValueError):
    """A kit that cannot be read or lacks kick, snare or hi-hat."""


def kits_of(split: str) -> tuple[KitSource, ...]:
    """Installed kits of a split. Only `test-font` hears the unseen ones."""
    listed = sounds_of(split, "kits")
    return tuple(k for k in KITS if k.name in listed and (HYDROGEN_DIR / k.name / "drumkit.xml").is_file())


def piece_of_name(name: str) -> Piece | None:
    return next((piece for piece, pattern in _NAMES if re.search(pattern, name.lower())), None)


@lru_cache(maxsize=4)
def read_kit(folder: Path) -> dict[Piece, tuple[tuple[Audio, ...], ...]]:
    """Instruments of each piece, each a tuple of its louder layers, mono, 44.1 kHz, scaled by the kit's own levels."""
    text = (folder / "drumkit.xml").read_text("utf-8", "replace")
    root = ElementTree.fromstring(re.sub(r'\sxmlns="[^"]*"', "", text))
    pieces: dict[Piece, list[tuple[Audio, ...]]] = {}
    for instrument in root.iter("instrument"):
        piece = piece_of_name(instrument.findtext("name") or "")
        layers = _layers(folder, instrument) if piece is not None else ()
        if piece is not None and layers:
            pieces.setdefault(piece, []).append(layers)
    missing = [p.value for p in _ESSENTIAL if p not in pieces]
    if missing:
        raise KitError(f"{folder.name} has no {', '.join(missing)}")
    for piece, other in _REPLACEMENTS.items():
        if piece not in pieces and other in pieces:
            pieces[piece] = pieces[other]
    return {piece: tuple(found) for piece, found in pieces.items()}


def _layers(folder: Path, instrument: ElementTree.Element) -> tuple[Audio, ...]:
    volume = float(instrument.findtext("volume") or 1) * float(instrument.findtext("gain") or 1)
    found = [
        (float(layer.findtext("max") or 1), layer.findtext("filename"), float(layer.findtext("gain") or 1))
        for layer in instrument.iter("layer")
    ] or [(1.0, instrument.findtext("filename"), 1.0)]
    loudest = sorted((f for f in found if f[1]), reverse=True)[:3]
    return tuple(
        _read_hit(folder / name, volume * gain) for _, name, gain in loudest if name and (folder / name).is_file()
    )


def _read_hit(path: Path, gain: float) -> Audio:
    audio_LC, rate = soundfile.read(path, dtype="float32", always_2d=True)
    mono = soxr.resample(audio_LC.mean(axis=1), rate, SAMPLE_RATE_HZ)[: round(LONGEST_HIT_S * SAMPLE_RATE_HZ)]
    mono = np.array(mono, np.float32)
    fade = min(len(mono), SAMPLE_RATE_HZ // 50)
    mono[len(mono) - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
    return mono * np.float32(gain)


def draw_recorded_kit(rng: np.random.Generator, split: str) -> tuple[KitSource, Kit] | None:
    """A kit of the split with random tuning, levels and places; None where no kit is installed."""
    sources = kits_of(split)
    if not sources:
        return None
    source = sources[int(rng.integers(len(sources)))]
    strokes, level = {}, {}
    for piece, instruments in sorted(read_kit(HYDROGEN_DIR / source.name).items(), key=lambda item: item[0].value):
        layers = instruments[int(rng.integers(len(instruments)))]
        strokes[piece] = _stroke(layers, float(np.exp2(rng.normal(0, 1.5) / 12)))
        level[piece] = float(np.exp(rng.normal(0, 0.25)))
    side = float(rng.choice((-1, 1))) * float(rng.uniform(0.2, 1))
    return source, Kit(strokes, {p: PAN.get(p, 0.0) * side for p in strokes}, level)


def _stroke(layers: tuple[Audio, ...], tuning: float) -> Stroke:
    def stroke(noise: np.random.Generator) -> Audio:
        sound = layers[int(noise.integers(len(layers)))]
        return np.asarray(soxr.resample(sound, SAMPLE_RATE_HZ * tuning, SAMPLE_RATE_HZ, "MQ"), np.float32)

    return stroke
