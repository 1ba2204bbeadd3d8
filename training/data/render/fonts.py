"""The soundfonts, their licences, and which split may hear which."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from .fluid import FluidSynth, FluidSynthError
from .mixing import SAMPLE_RATE_HZ
from .splits import sounds_of


@dataclass(frozen=True, slots=True)
class Font:
    name: str
    path: Path
    licence: str
    weight: float


# MuseScore General grew out of FluidR3: the two share samples and must stay on one side of every split.
KNOWN_FONTS = (
    Font("FluidR3_GM", Path("/usr/share/sounds/sf2/FluidR3_GM.sf2"), "MIT", 0.45),
    Font("MuseScore_General", Path("/usr/share/sounds/sf3/MuseScore_General.sf3"), "MIT", 0.45),
    Font("OPL-3_FM_128M", Path("/usr/share/sounds/sf2/OPL-3_FM_128M.sf2"), "CC-BY-SA-3.0", 0.10),
)
UNSEEN_FONTS = (Font("TimGM6mb", Path("/usr/share/sounds/sf2/TimGM6mb.sf2"), "GPL-2.0", 1.0),)
FONTS = (*KNOWN_FONTS, *UNSEEN_FONTS)


def fonts_of(split: str) -> tuple[Font, ...]:
    """Installed fonts of a split. Only `test-font` hears the unseen ones."""
    listed = sounds_of(split, "fonts")
    wanted = tuple(font for font in FONTS if font.name in listed)
    present = tuple(f for f in wanted if f.path.is_file())
    if not present:
        raise FluidSynthError(
            f"none of the soundfonts of {split} is installed: {', '.join(str(f.path) for f in wanted)}"
        )
    return present


def draw_font(rng: np.random.Generator, split: str) -> Font:
    fonts = fonts_of(split)
    weights = np.array([f.weight for f in fonts])
    return fonts[int(rng.choice(len(fonts), p=weights / weights.sum()))]


@lru_cache(maxsize=8)
def synth_of(font: Font) -> FluidSynth:
    """One synthesizer a process and font: loading takes seconds, rendering far less."""
    return FluidSynth(font.path, SAMPLE_RATE_HZ)
