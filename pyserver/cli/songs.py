"""Which songs a command line means, and where their stems go."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath

import soundfile

from pyserver.audio.files import AudioFileMissing
from pyserver.cli.places import AnyPath, RemotePath
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

    source: AnyPath
    directory: AnyPath

    def output(self, stem: str, extension: str) -> AnyPath:
        return self.directory / f"{stem}.{extension}"

    def present(self, stems: Sequence[str], extension: str) -> list[AnyPath]:
        """Those of its stems that are already there."""
        if isinstance(self.directory, RemotePath):
            names = self.directory.names()  # asks the store once
            return [path for stem in stems if (path := self.output(stem, extension)).name in names]
        return [path for stem in stems if (path := self.output(stem, extension)).exists()]

    def is_done(self, stems: Sequence[str], extension: str) -> bool:
        return len(self.present(stems, extension)) == len(stems)


def collect(inputs: Sequence[AnyPath], output: AnyPath) -> tuple[list[Song], list[StemlineError]]:
    """The songs that files and folders stand for, and what is wrong with those that stand for none.

    The structure below a given folder is kept below `output`; what lies in `output` itself is never a song.
    """
    songs: list[Song] = []
    problems: list[StemlineError] = []
    for given in inputs:
        try:
            songs += _meant(given, output)
        except StemlineError as error:
            problems.append(error)
    return list(dict.fromkeys(songs)), problems


def _meant(given: AnyPath, output: AnyPath) -> list[Song]:
    if given.is_dir():
        found = [
            Song(given / path, output / path.with_suffix(""))
            for path in (_below(given, output) if isinstance(given, Path) else _below_remote(given, output))
        ]
        if not found:
            raise NoAudioFound(f"{given} contains no audio files", path=given)
        return found
    if given.exists():
        return [Song(given, output / given.stem)]
    raise AudioFileMissing(f"{given} does not exist", path=given)


def require_distinct(songs: Iterable[Song]) -> None:
    """Raises SameOutput if the stems of two songs would be written to one directory."""
    seen: dict[AnyPath, AnyPath] = {}
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
    require_none((path for song in songs for path in song.present(stems, extension)), skippable=skippable)


def require_none(present: Iterable[AnyPath], *, skippable: bool = True) -> None:
    """As `require_free`, of files that were found."""
    taken = list(present)
    if taken:
        shown = "\n".join(f"  {path}" for path in taken[:10]) + ("\n  …" if len(taken) > 10 else "")
        raise OutputExists(
            f"{len(taken)} files are already there; give --overwrite to replace them, "
            f"{'--skip-done to leave out finished songs, ' if skippable else ''}or another -o:\n{shown}",
            count=len(taken),
            path=taken[0],
        )


def _below(folder: Path, output: AnyPath) -> list[PurePosixPath]:
    excluded = output.resolve() if isinstance(output, Path) else None
    return sorted(
        PurePosixPath(relative.as_posix())
        for path in folder.rglob("*")
        if _is_song(relative := path.relative_to(folder)) and path.is_file() and excluded not in path.resolve().parents
    )


def _below_remote(folder: RemotePath, output: AnyPath) -> list[PurePosixPath]:
    excluded = f"{str(output).rstrip('/')}/"
    return [path for path in folder.below() if _is_song(path) and not str(folder / path).startswith(excluded)]


def _is_song(path: PurePath) -> bool:
    """As far as its name tells; `path` is relative to the folder that was given."""
    return path.suffix.lower() in EXTENSIONS and not any(part.startswith(".") for part in path.parts)
