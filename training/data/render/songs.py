"""Where songs come from, and on which side of the split each one lies.

A song is known by an identity string that does not depend on this machine ("freedoom1/D_E1M1", "mma/stdlib/rock",
"midi/FOLDER/NAME" of the user's own); its split follows from that string (see `splits`).
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from .splits import split_of

WADS = ("freedoom1", "freedoom2", "freedm")
WAD_DIR = Path("/usr/share/games/doom")
OPENMSX_DIR = Path("/usr/share/games/openttd/baseset/openmsx")
SIMUTRANS_DIR = Path("/usr/share/games/simutrans/music")
MMA_LIB = Path("/usr/share/mma/lib")

_TRANSITION = re.compile(r"intro|fill|end(ing)?[a-z0-9]?$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Song:
    """A composed song; `data` is a standard MIDI file."""

    identity: str
    licence: str
    data: bytes


@dataclass(frozen=True, slots=True)
class GrooveFamily:
    """The grooves of one file of mma's library; the unit of the split, since grooves of a file are variations."""

    identity: str
    licence: str
    library_file: str
    grooves: tuple[str, ...]
    beats_per_bar: int


@dataclass(frozen=True, slots=True)
class Catalogue:
    songs: tuple[Song, ...]
    families: tuple[GrooveFamily, ...]


@dataclass(frozen=True, slots=True)
class OwnSongs:
    """A folder of the user's MIDI files (`.mid`, `.midi`), searched with its subfolders."""

    folder: Path
    licence: str

    def __post_init__(self) -> None:
        if not self.folder.is_dir():
            raise NotADirectoryError(f"{self.folder} is no folder of MIDI files")

    def songs(self) -> Iterator[Song]:
        for path in sorted(self.folder.rglob("*")):
            if path.suffix.lower() in (".mid", ".midi"):
                name = path.relative_to(self.folder).with_suffix("").as_posix()
                yield Song(f"midi/{name}", self.licence, path.read_bytes())


@lru_cache(maxsize=4)
def catalogue(split: str, own: OwnSongs | None = None) -> Catalogue:
    """Songs and groove families of one split; sources that are not installed are left out."""
    return Catalogue(
        songs=tuple(s for s in all_songs(own) if split_of(s.identity) == split),
        families=tuple(f for f in all_families() if split_of(f.identity) == split),
    )


def all_songs(own: OwnSongs | None = None) -> list[Song]:
    """Every composed song once: the Doom WADs share music, and a copy must not sit on both sides of a split."""
    seen: set[bytes] = set()
    songs = []
    for song in (*_wad_songs(), *_folder_songs(OPENMSX_DIR, "openmsx", "GPL-2.0"),
                 *_folder_songs(SIMUTRANS_DIR, "simutrans", "Artistic-1.0"),
                 *(own.songs() if own else ())):  # fmt: skip
        digest = hashlib.sha256(song.data).digest()
        if digest not in seen:
            seen.add(digest)
            songs.append(song)
    return songs


def _wad_songs() -> Iterator[Song]:
    for wad in WADS:
        path = WAD_DIR / f"{wad}.wad"
        if path.is_file():
            for name, data in read_wad(path.read_bytes()):
                if name.startswith("D_") and data[:4] == b"MThd":
                    yield Song(f"{wad}/{name}", "BSD-3-Clause", data)


def read_wad(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Lumps of a Doom WAD: a header, then a directory of (offset, size, 8-byte name)."""
    magic, count, directory = struct.unpack_from("<4sii", data)
    if magic not in (b"IWAD", b"PWAD"):
        raise ValueError("not a WAD file")
    for index in range(count):
        offset, size, raw = struct.unpack_from("<ii8s", data, directory + 16 * index)
        yield raw.rstrip(b"\0").decode("ascii", "replace"), data[offset : offset + size]


def _folder_songs(folder: Path, origin: str, licence: str) -> Iterator[Song]:
    for path in sorted(folder.glob("*.mid")):
        yield Song(f"{origin}/{path.stem}", licence, path.read_bytes())


def all_families() -> list[GrooveFamily]:
    families = []
    for path in sorted(MMA_LIB.rglob("*.mma")):
        text = path.read_text("latin-1")
        grooves = tuple(re.findall(r"^\s*DefGroove\s+(\S+)", text, re.IGNORECASE | re.MULTILINE))
        grooves = tuple(g for g in grooves if not _TRANSITION.search(g))  # one-bar fills do not loop
        beats = re.search(r"^\s*Time\s+(\d+)", text, re.IGNORECASE | re.MULTILINE)
        if grooves:
            relative = path.relative_to(MMA_LIB).as_posix()
            families.append(
                GrooveFamily(
                    f"mma/{relative.removesuffix('.mma')}",
                    "GPL-2.0-or-later",
                    relative,
                    grooves,
                    int(beats.group(1)) if beats else 4,
                )
            )
    return families
