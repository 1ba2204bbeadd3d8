"""What a rendered split is made of: songs, sounds, licences, minutes. Counted from the tracks' own `meta.json`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .fonts import FONTS
from .kits import KITS
from .score import STEMS

MANIFEST = "manifest.json"
OWN_SOUNDS = "own synthesizers"
_RECORDED = {sound.name for sound in (*FONTS, *KITS)}


def manifest_of(folder: Path) -> dict[str, Any]:
    """Of the finished tracks in a split's folder.

    `songs` by identity, `song_sources` by the identity's first part; `sounds` by soundfont or kit, our synthesizers
    together and by voice; `licences` with the minutes that songs under them last, and the stems that sounds under
    them play.
    """
    metas = [json.loads(path.read_text()) for path in sorted(folder.glob("Track*/meta.json"))]
    songs: dict[str, dict[str, Any]] = {}
    sources: dict[str, dict[str, Any]] = {}
    sounds: dict[str, dict[str, Any]] = {}
    voices: dict[str, int] = {}
    minutes = dict.fromkeys(STEMS, 0.0)
    for meta in metas:
        length = meta["seconds"] / 60
        for table, key in ((songs, meta["song"]), (sources, meta["song"].split("/")[0])):
            row = table.setdefault(key, {"licence": meta["licence"], "tracks": 0, "minutes": 0.0})
            row["tracks"] += 1
            row["minutes"] += length
        for stem, sound in meta["stems"].items():
            minutes[stem] += length
            recorded = sound["sound"] in _RECORDED
            row = sounds.setdefault(
                sound["sound"] if recorded else OWN_SOUNDS, {"licence": sound["licence"], "stems": 0}
            )
            row["stems"] += 1
            for voice in () if recorded else sound["sound"].split("+"):
                voices[voice] = voices.get(voice, 0) + 1
    return {
        "split": folder.resolve().name,
        "seeds": sorted({meta["seed"] for meta in metas}),
        "tracks": len(metas),
        "minutes": sum(meta["seconds"] for meta in metas) / 60,
        "minutes_by_stem": minutes,
        "licences": {"songs": _by_licence(songs, "minutes"), "sounds": _by_licence(sounds, "stems")},
        "song_sources": dict(sorted(sources.items())),
        "sounds": dict(sorted(sounds.items())),
        "voices": dict(sorted(voices.items())),
        "songs": dict(sorted(songs.items())),
    }


def _by_licence(rows: Mapping[str, Mapping[str, Any]], what: str) -> dict[str, float]:
    totals: dict[str, float] = {}
    for row in rows.values():
        totals[row["licence"]] = totals.get(row["licence"], 0) + row[what]
    return dict(sorted(totals.items()))


def write_manifest(folder: Path) -> Path:
    """`manifest.json` beside the tracks, put in place of the last one at once."""
    path, beside = folder / MANIFEST, folder / f".{MANIFEST}.{os.getpid()}"
    with beside.open("w") as file:
        file.write(json.dumps(_rounded(manifest_of(folder)), indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    return path


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return round(value, 2) if isinstance(value, float) else value
