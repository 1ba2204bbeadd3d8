"""Songs as int16 on the disk, mapped into memory: decoded, resampled and summed by stem once, not in every run.

Axes: S stems, L samples, C channels.
"""

import hashlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import platformdirs

from training.data.datasets import Song, resample

Int16 = npt.NDArray[np.int16]
FOLDER_VARIABLE = "STEMLINE_DECODED"
_FULL_SCALE = 32768


def decoded(song: Song, stems: Sequence[str], rate_hz: int) -> Int16:
    """(S, L, 2) of a song at that rate; of a mono song one channel lies on the disk.

    The copy is named by what it was made from, so an old one is never taken.
    """
    copy = _copy_of(song, stems, rate_hz)
    try:
        return _mapped(copy)
    except (FileNotFoundError, ValueError):  # there is none, or what is there was cut short on its way to this disk
        _write(copy, quantised(load_at(song, stems, rate_hz)))
        return _mapped(copy)


def load_at(song: Song, stems: Sequence[str], rate_hz: int) -> npt.NDArray[np.float32]:
    audio_SLC, from_hz = song.load(stems, channels=None)
    if from_hz == rate_hz:
        return audio_SLC
    return np.stack([resample(audio_LC, from_hz, rate_hz) for audio_LC in audio_SLC])


def quantised(audio_SLC: npt.NDArray[np.float32]) -> Int16:
    """16-bit files are kept to the bit. Where a sum passes full scale, all stems of the song are lowered alike."""
    low, high = float(audio_SLC.min(initial=0)) * _FULL_SCALE, float(audio_SLC.max(initial=0)) * _FULL_SCALE
    too_loud = max(high / (_FULL_SCALE - 1), -low / _FULL_SCALE, 1.0)
    return np.asarray(np.rint(audio_SLC * np.float32(_FULL_SCALE / too_loud)), np.int16)


def _mapped(copy: Path) -> Int16:
    stored_SLC = np.lib.format.open_memmap(copy, mode="r")
    return np.broadcast_to(stored_SLC, (*stored_SLC.shape[:2], 2))


def _copy_of(song: Song, stems: Sequence[str], rate_hz: int) -> Path:
    """Beside the sources where one may write, else among this user's caches, or all in the folder that is named."""
    key = hashlib.sha256(f"{rate_hz} {' '.join(stems)}\n".encode())
    for stem, sources in song.parts(stems).items():
        for source in sources:
            about = source.path.stat()
            inside = source.path.relative_to(song.path)
            key.update(f"{stem} {inside} {source.stream} {about.st_size} {about.st_mtime_ns}\n".encode())
    beside = song.path if song.path.is_dir() else song.path.parent
    named = os.environ.get(FOLDER_VARIABLE)
    if named is None and os.access(beside, os.W_OK):
        hidden = "" if song.path.is_dir() else f"{song.name}."
        return beside / f".{hidden}{key.hexdigest()[:16]}.int16.npy"
    key.update(str(song.path.resolve()).encode())
    folder = Path(named) if named else Path(platformdirs.user_cache_dir("stemline", appauthor=False)) / "decoded"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{key.hexdigest()[:16]}.int16.npy"


def _write(copy: Path, audio_SLC: Int16) -> None:
    """Several processes may write the same copy at once; each has a file of its own until it is whole."""
    handle, name = tempfile.mkstemp(prefix=f"{copy.name}.", suffix=".partial", dir=copy.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            np.save(file, audio_SLC)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(copy)
    finally:
        Path(name).unlink(missing_ok=True)
