"""The audio of one job on disk: its input, its stems, and how far they are finished.

Axes: S stems, C channels, N samples, F samples of a fade. Files hold interleaved little-endian float32.
"""

import errno
import hashlib
import io
import logging
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pyserver.engine.messages import Audio
from pyserver.errors import DiskFull

log = logging.getLogger(__name__)

_READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What is finished: stems up to `done_samples` are on disk, and `tail_SCF` is what OverlapAdd goes on with.

    `computed_by` is WindowResult's, "" where it is not known.
    """

    windows: int
    done_samples: int
    peaks_S: npt.NDArray[np.float32]
    tail_SCF: Audio
    computed_by: str = ""


@contextmanager
def disk_errors(path: Path, need_bytes: int = 0) -> Iterator[None]:
    """A full disk as DiskFull. Other errors of the operating system go their way."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        free = free_bytes(path)
        raise DiskFull(
            f"no room on the disk for {path}: {need_bytes:,} bytes needed, {free:,} free; "
            "free some space and start the same job again, it goes on where it stopped",
            path=path,
            need_bytes=need_bytes,
            free_bytes=free,
        ) from error


def free_bytes(path: Path) -> int:
    """Space on the disk of `path`, of which only some parent need exist."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def replace_file(path: Path, content: bytes) -> None:
    """Write beside, flush, rename: readers and crashes see the old content or the new. Raises DiskFull."""
    with disk_errors(path, len(content)):
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=path.name + ".")
        fresh = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
        except BaseException:
            with suppress(OSError):
                fresh.unlink()
            raise


class JobFiles:
    """Reads and writes at positions; holds no file open and no audio, so jobs of any length cost no memory."""

    def __init__(self, directory: Path, channels: int, num_samples: int, input_channels: int | None = None) -> None:
        """The stems have `channels`; the input has as many if it is not said otherwise."""
        self.directory = directory
        self._input_channels = channels if input_channels is None else input_channels
        self._num_samples, self._frame_bytes = num_samples, 4 * channels

    @property
    def input_path(self) -> Path:
        return self.directory / "input.f32"

    def stem_path(self, stem: str) -> Path:
        return self.directory / "stems" / f"{stem}.f32"

    @property
    def committed_bytes(self) -> int:
        """Size of the input in whole samples: a write that was cut off does not count."""
        try:
            return self.input_path.stat().st_size // 4 * 4
        except FileNotFoundError:
            return 0

    def append_input(self, offset: int, data: bytes) -> None:
        """Write at `offset`, which is `committed_bytes`; nothing of a chunk stays if the disk is full."""
        with disk_errors(self.input_path, len(data)), _opened(self.input_path) as file:
            try:
                _write_at(file, offset, data)
            except BaseException:
                os.ftruncate(file, offset)
                raise

    def sync_input(self) -> None:
        with _opened(self.input_path) as file:
            os.fsync(file)

    def read_input(self, start: int, stop: int) -> Audio:
        """Samples [start, stop) as (C, N); zeros outside the song."""
        audio_NC = np.zeros((stop - start, self._input_channels), np.float32)
        low, high = max(start, 0), min(stop, self._num_samples)
        if low < high:
            with self.input_path.open("rb", buffering=0) as file:
                file.seek(low * 4 * self._input_channels)
                wanted = audio_NC[low - start : high - start].data.cast("B")
                filled = 0
                while filled < len(wanted):
                    count = file.readinto(wanted[filled:])
                    if not count:
                        raise OSError(errno.EIO, f"{self.input_path} is shorter than its job")
                    filled += count
        return np.ascontiguousarray(audio_NC.T)

    def write_stem(self, stem: str, start: int, audio_CN: Audio) -> bytes:
        """Put finished samples in their place, over whatever is there; gives the bytes that were written."""
        data = np.ascontiguousarray(audio_CN.T, dtype="<f4").tobytes()
        path = self.stem_path(stem)
        path.parent.mkdir(exist_ok=True)
        with disk_errors(path, len(data)), _opened(path) as file:
            _write_at(file, start * self._frame_bytes, data)
        return data

    def hash_stem(self, stem: str, num_samples: int) -> "hashlib._Hash":
        """SHA-256 over the first samples of a stem, ready to be fed what follows."""
        digest, left = hashlib.sha256(), num_samples * self._frame_bytes
        if left:
            with self.stem_path(stem).open("rb") as file:
                while left and (piece := file.read(min(_READ_BYTES, left))):
                    digest.update(piece)
                    left -= len(piece)
        return digest

    def sync_stem(self, stem: str) -> None:
        with disk_errors(self.stem_path(stem)), _opened(self.stem_path(stem)) as file:
            os.fsync(file)

    def save_progress(self, progress: Progress) -> None:
        """The moment at which windows count as finished; what they wrote must be on its way to the disk before."""
        content = io.BytesIO()
        np.savez(
            content,
            windows=progress.windows,
            done_samples=progress.done_samples,
            peaks_S=progress.peaks_S,
            tail_SCF=progress.tail_SCF,
            computed_by=progress.computed_by,
            boot=_boot_id(),
        )
        replace_file(self.directory / "progress.npz", content.getvalue())

    def load_progress(self, stems: int) -> Progress | None:
        """None where nothing is finished, or nothing that could be relied on: then it is computed again."""
        path = self.directory / "progress.npz"
        try:
            with np.load(path, allow_pickle=False) as saved:
                if str(saved["boot"]) != _boot_id():
                    # Stems are not flushed after each window: only a running kernel vouches for them.
                    return None
                progress = Progress(
                    windows=int(saved["windows"]),
                    done_samples=int(saved["done_samples"]),
                    peaks_S=saved["peaks_S"].astype(np.float32),
                    tail_SCF=saved["tail_SCF"].astype(np.float32),
                    computed_by=str(saved["computed_by"]) if "computed_by" in saved else "",
                )
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            log.warning("%s cannot be read (%s); the job starts from the beginning", path, error)
            return None
        return progress if progress.peaks_S.shape == (stems,) else None

    def forget_work(self) -> None:
        shutil.rmtree(self.work_path("").parent, ignore_errors=True)

    def forget_progress(self) -> None:
        (self.directory / "progress.npz").unlink(missing_ok=True)

    def work_path(self, name: str) -> Path:
        """Of a file that is needed only until the job has ended."""
        return self.directory / "work" / f"{name}.f32"

    @property
    def disk_bytes(self) -> int:
        """What the audio files take now."""
        paths = [self.input_path, *(self.directory / "stems").glob("*.f32")]
        return sum(path.stat().st_size for path in paths if path.exists())


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _write_at(descriptor: int, offset: int, data: bytes) -> None:
    """All of `data`: the operating system may take it in parts."""
    left = memoryview(data)
    os.lseek(descriptor, offset, os.SEEK_SET)
    while left:
        left = left[os.write(descriptor, left) :]


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
