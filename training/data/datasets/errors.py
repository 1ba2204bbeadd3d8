"""What can be wrong with a folder of songs. Each names the folder, the file and what was expected."""

from collections.abc import Sequence
from pathlib import Path


class DatasetError(ValueError):
    """Something about a folder of songs that its owner can mend."""


class NoSongs(DatasetError):
    """A folder without a single song in a layout that is known."""


class BrokenSong(DatasetError):
    """A song that lacks what its layout promises."""

    def __init__(self, folder: Path, file: Path, expected: str, found: str) -> None:
        super().__init__(f"{folder}: expected {expected} in {file.name}, but {found}")
        self.folder, self.file = folder, file


class StemsNotApart(DatasetError):
    """A data set whose `other` holds stems that were asked for: as targets they would be wrong."""

    def __init__(self, song: Path, layout: str, mingled: Sequence[str], apart: Sequence[str]) -> None:
        super().__init__(
            f"{song}: {layout} has {', '.join(mingled)} inside `other`; it tells apart {', '.join(apart)} and no more"
        )


class NoFfmpeg(DatasetError):
    """The programs that decode MP4 are not installed."""

    def __init__(self, file: Path) -> None:
        super().__init__(
            f"{file.parent}: {file.name} is decoded by the programs ffmpeg and ffprobe, which are not installed "
            f"(apt-get install ffmpeg); MUSDB18-HQ, the same songs as WAV, does without"
        )
