"""Which song and which sound belongs to which split: the lists in `training/data/splits`.

They are what the shipped model was trained and tested with, and do not change when a package brings other songs; a song
that is not in them goes where the hash of its name puts it, so it never moves another one.
"""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "splits"
SPLIT_SEED = "stemline-1"
TRAIN, VALIDATION, TEST = "train", "val", "test"


@lru_cache(maxsize=1)
def _listed_songs() -> dict[str, str]:
    lists: dict[str, list[str]] = json.loads((FOLDER / "songs.json").read_text())
    return {identity: split for split, identities in lists.items() for identity in identities}


@lru_cache(maxsize=1)
def _listed_sounds() -> dict[str, dict[str, list[str]]]:
    lists: dict[str, dict[str, list[str]]] = json.loads((FOLDER / "sounds.json").read_text())
    return lists


def split_of(identity: str) -> str:
    """As listed; 80 % train, 10 % val, 10 % test, by hash of the identity, for any other song."""
    return _listed_songs().get(identity) or hashed_split(identity)


def hashed_split(identity: str) -> str:
    digest = hashlib.sha256(f"{SPLIT_SEED}:{identity}".encode()).digest()
    percent = int.from_bytes(digest[:8], "big") % 100
    return TRAIN if percent < 80 else VALIDATION if percent < 90 else TEST


def sounds_of(split: str, kind: str) -> frozenset[str]:
    """Names of the "fonts" or the "kits" that a rendered split (train, val, test-song, test-font) may hear."""
    return frozenset(_listed_sounds()[split][kind])
