"""MoisesDB. It is published without splits: they are drawn from the song's identity."""

import json
import re
from pathlib import Path
from typing import Any

from training.data.datasets.errors import BrokenSong
from training.data.datasets.song import CLASSES, Layout, Source, hashed_split

METADATA = "data.json"
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def sources(song: Path) -> tuple[Source, ...]:
    metadata = song / METADATA
    try:
        content: Any = json.loads(metadata.read_text())
        listed = [
            (str(stem["stemName"]), f"{track['id']}.{track['extension']}")
            for stem in content["stems"]
            for track in stem["tracks"]
        ]
    except FileNotFoundError as error:
        raise BrokenSong(song, metadata, "the song's stems", "there is no such file") from error
    except (ValueError, KeyError, TypeError) as error:
        expected = "stems with a stemName and tracks with an id and an extension"
        raise BrokenSong(song, metadata, expected, f"{type(error).__name__}: {error}") from error
    for stem, file in listed:
        if not (song / stem / file).is_file():
            raise BrokenSong(song, metadata, f"only files that are there, as {stem}/{file},", "that is not there")
    # percussion, other_plucked, other_keys, bowed_strings, wind: as in the data set's own mixes they count as other
    return tuple(Source(song / stem / file, stem if stem in CLASSES else "other") for stem, file in listed)


MOISESDB = Layout(
    name="MoisesDB",
    shape="moisesdb_v0.1/UUID/data.json and STEM/TRACK.wav",
    apart=frozenset(CLASSES),
    marks=lambda path: (path / METADATA).is_file(),
    holds=lambda path: (path / METADATA).is_file() or (path.is_dir() and _UUID.fullmatch(path.name) is not None),
    sources=sources,
    split=lambda _folder_split, title: hashed_split(title, "moisesdb"),
)
