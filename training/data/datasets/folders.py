"""A folder a song, a file a stem: our own layout, MSDM's and DiCoSe's, and any folder of songs that looks like it."""

from pathlib import Path

from training.data.datasets.song import CLASSES, Layout, Source

# Of two files with one stem the first counts.
SUFFIXES = (".flac", ".wav", ".ogg")
_MIXTURES = ("mixture", "mix")


def _files(song: Path) -> dict[str, Path]:
    if not song.is_dir():
        return {}
    found = sorted((path for path in song.iterdir() if path.suffix in SUFFIXES), key=lambda p: SUFFIXES.index(p.suffix))
    files: dict[str, Path] = {}
    for path in found:
        if path.stem not in _MIXTURES and not path.name.startswith("."):
            files.setdefault(path.stem, path)
    return files


def is_song(path: Path) -> bool:
    return any(stem in CLASSES for stem in _files(path))


def sources(song: Path) -> tuple[Source, ...]:
    return tuple(Source(path, stem) for stem, path in sorted(_files(song).items()))


STEM_FOLDERS = Layout(
    name="folders of stems",
    shape=f"[SPLIT/]SONG/{{{','.join(CLASSES)}}}{{{','.join(SUFFIXES)}}}",
    apart=frozenset(CLASSES),
    marks=is_song,
    holds=is_song,
    sources=sources,
)
