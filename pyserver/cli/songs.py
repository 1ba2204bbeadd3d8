"""Which songs a command line means, and where their stems go."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import soundfile

from pyserver.audio.files import AudioFileMissing
from pyserver.errors import StemlineError

# What libsndfile calls formats, and the other names that files of those formats go by.
_EXTENSIONS = {f".{name.lower()}" for name in soundfile.available_formats()} - {".raw", ".mat4", ".mat5"}
EXTENSIONS = _EXTENSIONS | {".aif", ".aifc", ".wave", ".oga", ".opus", ".snd"}


class NoAudioFound(StemlineError):
    reason = "NO_AUDIO_FOUND"


class OutputExists(StemlineError):
    reason = "OUTPUT_EXISTS"


class SameOutput(StemlineError):
    reason = "SAME_OUTPUT"


@dataclass(frozen=True, slots=True)
class Song:
    """A file and the directory that its stems are written to."""

    source: Path
    directory: Path

    def output(self, stem: str, extension: str) -> Path:
        return self.directory / f"{stem}.{extension}"

    def is_done(self, stems: Sequence[str], extension: str) -> bool:
        return all(self.output(stem, extension).exists() for stem in stems)


def collect(inputs: Sequence[Path], output: Path) -> tuple[list[Song], list[StemlineError]]:
    """The songs that files and folders stand for, and what is wrong with those that stand for none.

    The structure below a given folder is kept below `output`; what lies in `output` itself is never a song.
    """
    songs: list[Song] = []
    problems: list[StemlineError] = []
    for given in inputs:
        if given.is_dir():
            found = [Song(file, output / file.relative_to(given).with_suffix("")) for file in _below(given, output)]
            if not found:
                problems.append(NoAudioFound(f"{given} contains no audio files", path=given))
            songs += found
        elif given.exists():
            songs.append(Song(given, output / given.stem))
        else:
            problems.append(AudioFileMissing(f"{given} does not exist", path=given))
    return list(dict.fromkeys(songs)), problems


def require_distinct(songs: Iterable[Song]) -> None:
    """Raises SameOutput if the stems of two songs would be written to one directory."""
    seen: dict[Path, Path] = {}
    for song in songs:
        other = seen.setdefault(song.directory, song.source)
        if other != song.source:
            raise SameOutput(
                f"{other} and {song.source} would both be written to {song.directory}; rename one, or bounce them into "
                "different directories",
                path=song.directory,
            )


def require_free(songs: Iterable[Song], stems: Sequence[str], extension: str, *, skippable: bool = True) -> None:
    """Raises OutputExists with every file that is in the way; `skippable` where --skip-done is a way out."""
    taken = [path for song in songs for stem in stems if (path := song.output(stem, extension)).exists()]
    if taken:
        shown = "\n".join(f"  {path}" for path in taken[:10]) + ("\n  …" if len(taken) > 10 else "")
        raise OutputExists(
            f"{len(taken)} files are already there; give --overwrite to replace them, "
            f"{'--skip-done to leave out finished songs, ' if skippable else ''}or another -o:\n{shown}",
            count=len(taken),
            path=taken[0],
        )


def _below(folder: Path, output: Path) -> list[Path]:
    excluded = output.resolve()
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in EXTENSIONS
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
        and excluded not in path.resolve().parents
    )
