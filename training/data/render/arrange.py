"""From a song to what each stem plays in one excerpt: transposed, at another tempo, with other instruments."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from . import accompaniment
from .score import STEMS, Part, ScoreError, read_midi, stem_of_program
from .songs import Catalogue

SHORTEST_S, LONGEST_S = 20.0, 60.0
MAX_PARTS = {"bass": 1, "drums": 2, "guitar": 2, "piano": 2, "other": 4}
ACCOMPANIMENT_SHARE = 0.65

PROGRAMS = {
    "bass": (32, 33, 34, 35, 36, 37, 38, 39),
    "guitar": (24, 25, 26, 27, 28, 29, 30),
    "piano": (0, 1, 2, 3, 4, 5, 6, 7),
    "drums": (0, 8, 16, 24, 25, 32, 40),
}
WEIGHTS = {
    "bass": (1, 3, 3, 1.5, 0.7, 0.7, 1, 1),
    "guitar": (2, 3, 1.2, 2.5, 1.5, 2, 2),
    "piano": (3, 2.5, 1, 0.6, 2, 2, 0.3, 0.7),
    "drums": (3, 2, 2, 1, 1, 1, 0.7),
}
OTHER_PROGRAMS = tuple(p for p in range(112) if stem_of_program(p, False) == "other")


@dataclass(frozen=True, slots=True)
class Arrangement:
    """What to render. `stems` has only the stems that play."""

    song: str
    licence: str
    groove: str
    seconds: float
    transposed_semitones: int
    tempo_factor: float
    stems: dict[str, tuple[Part, ...]]


def arrange(rng: np.random.Generator, songs: Catalogue) -> Arrangement:
    """An excerpt of a random song of `songs`; tries another song when one cannot be used."""
    for _ in range(20):
        try:
            return _try_arrange(rng, songs)
        except ScoreError:
            continue
    raise ScoreError("no usable song in twenty draws: are the MIDI sources and mma installed?")


def _try_arrange(rng: np.random.Generator, songs: Catalogue) -> Arrangement:
    use_grooves = bool(songs.families) and (not songs.songs or rng.random() < ACCOMPANIMENT_SHARE)
    if not songs.songs and not songs.families:
        raise ScoreError("no songs")
    if use_grooves:
        family = songs.families[int(rng.integers(len(songs.families)))]
        parts, groove = accompaniment.play(rng, family, _melody_program(rng))
        identity, licence = family.identity, family.licence
    else:
        song = songs.songs[int(rng.integers(len(songs.songs)))]
        parts, groove, identity, licence = read_midi(song.data), "", song.identity, song.licence

    parts = [p for p in parts if p.stem is not None]
    parts = reorchestrate(rng, parts)
    factor = 1.0 / float(rng.uniform(0.85, 1.2))
    semitones = int(rng.integers(-4, 5))
    seconds = float(rng.uniform(SHORTEST_S, LONGEST_S))
    begin, end = choose_excerpt(rng, parts, seconds / factor)
    seconds = (end - begin) * factor
    stems: dict[str, list[Part]] = {}
    for part in sorted(parts, key=len, reverse=True):
        excerpt = part.cut(begin, end).transposed(semitones).stretched(factor)
        stem = part.stem
        assert stem is not None
        if len(excerpt) and len(stems.get(stem, [])) < MAX_PARTS[stem]:
            stems.setdefault(stem, []).append(excerpt)
    if len(stems) < 2:
        raise ScoreError("fewer than two stems play in the excerpt")
    patched = {stem: tuple(repatch(rng, stem, stems[stem])) for stem in STEMS if stem in stems}
    return Arrangement(identity, licence, groove, seconds, semitones, 1.0 / factor, patched)


def _melody_program(rng: np.random.Generator) -> int | None:
    chance = rng.random()
    if chance < 0.25:
        return None
    if chance < 0.45:
        return int(rng.choice(PROGRAMS["guitar"]))
    if chance < 0.60:
        return int(rng.choice(PROGRAMS["piano"]))
    return int(rng.choice(OTHER_PROGRAMS))


def reorchestrate(rng: np.random.Generator, parts: list[Part]) -> list[Part]:
    """Gives a guitar or a piano to songs without one: they are the scarce classes of General-MIDI music."""
    for stem in ("guitar", "piano") if rng.random() < 0.5 else ("piano", "guitar"):
        if any(p.stem == stem for p in parts) or rng.random() > 0.8:
            continue
        spare = [i for i, p in enumerate(parts) if p.stem == "other" and len(p) >= 8]
        if not spare:  # a class that plays twice can give one player away
            spare = [i for i, p in enumerate(parts) if p.stem in ("guitar", "piano") and len(p) >= 8]
            spare = spare[1:]
        if spare:
            chosen = int(rng.choice(spare))
            parts = [*parts[:chosen], replace(parts[chosen], program=PROGRAMS[stem][0]), *parts[chosen + 1 :]]
    return parts


def choose_excerpt(rng: np.random.Generator, parts: list[Part], seconds: float) -> tuple[float, float]:
    """Of eight random places, the one where the most stems play (ties fall to the first)."""
    last = max((float(p.end_s.max()) for p in parts), default=0.0)
    if last < 8.0:
        raise ScoreError("the song is shorter than eight seconds")
    seconds = min(seconds, last)

    def activity(begin: float) -> float:
        playing = {p.stem: 0.0 for p in parts}
        for p in parts:
            inside = np.clip(np.minimum(p.end_s, begin + seconds) - np.maximum(p.start_s, begin), 0, None)
            playing[p.stem] = max(playing[p.stem], float(np.sum(inside)))
        return sum(min(1.0, sounding / (0.2 * seconds)) for sounding in playing.values())

    starts = [float(rng.uniform(0.0, max(0.0, last - seconds))) for _ in range(8)]
    begin = max(starts, key=activity)
    return begin, begin + seconds


def repatch(rng: np.random.Generator, stem: str, parts: list[Part]) -> list[Part]:
    """A random instrument of the same class for every part."""
    patched = []
    for part in parts:
        if stem == "other":
            family = part.program // 8 * 8
            near = rng.random() < 0.7
            program = family + int(rng.integers(8)) if near else int(rng.choice(OTHER_PROGRAMS))
        else:
            weights = np.array(WEIGHTS[stem])
            program = int(rng.choice(PROGRAMS[stem], p=weights / weights.sum()))
        patched.append(replace(part, program=program))
    return patched
