"""Songs with their stems, in the layouts in which they are published and in our own: `open_dataset`."""

from dataclasses import dataclass
from pathlib import Path

from training.data.datasets.errors import BrokenSong, DatasetError, NoFfmpeg, NoSongs, StemsNotApart
from training.data.datasets.folders import STEM_FOLDERS
from training.data.datasets.moises import MOISESDB
from training.data.datasets.musdb import MUSDB18, MUSDB18_HQ
from training.data.datasets.slakh import SLAKH
from training.data.datasets.song import CLASSES, SPLITS, Layout, Song, Source, resample

__all__ = [
    "CLASSES",
    "LAYOUTS",
    "BrokenSong",
    "Dataset",
    "DatasetError",
    "Layout",
    "NoFfmpeg",
    "NoSongs",
    "Song",
    "Source",
    "StemsNotApart",
    "open_dataset",
    "resample",
]

# The first that knows a folder reads it; the last knows least about what it wants.
LAYOUTS = (SLAKH, MUSDB18_HQ, MUSDB18, MOISESDB, STEM_FOLDERS)


@dataclass(frozen=True, slots=True)
class Dataset:
    """Lists anew each time it is asked, so that songs rendered since are found."""

    folder: Path
    layout: Layout
    split: str | None

    def songs(self) -> list[Song]:
        """Those of the split, or all but the `omitted`."""
        songs = self.layout.songs(self.folder)
        return [song for song in songs if song.split == self.split or (not self.split and song.split != "omitted")]


def open_dataset(path: Path) -> Dataset:
    """`path` is a data set, a split's folder in it, or a data set and a split's name that is no folder of its own.

    `musdb18hq/val` and `slakh2100/val` are such: fourteen songs lie in `train`, the others in `validation`.
    """
    places: list[tuple[Path, str | None]] = [(path, None)]
    if path.name in SPLITS:
        places.insert(0, (path.parent, SPLITS[path.name]))
    for folder, split in places:
        for layout in LAYOUTS if folder.is_dir() else ():
            dataset = Dataset(folder, layout, split)
            if dataset.songs():
                return dataset
    raise NoSongs(_what_was_looked_for(path))


def _what_was_looked_for(path: Path) -> str:
    for layout in LAYOUTS if path.name in SPLITS and path.parent.is_dir() else ():
        there = sorted({song.split for song in layout.songs(path.parent)})
        if there:
            return f"{path}: {path.parent} has the layout of {layout.name}, with songs for {', '.join(there)} only"
    if not path.is_dir():
        return f"{path} is no folder of songs: there is no such folder"
    shapes = "; ".join(f"{layout.name}: {layout.shape}" for layout in LAYOUTS)
    return f"{path} holds no songs in a layout that is known ({shapes})"
