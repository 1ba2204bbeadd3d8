"""Audio files in and out, block by block, so that a song of any length costs the same memory.

Axes: N samples (frames in a file), C channels; files are interleaved, so blocks are (N, C) float32, full scale = 1.
"""

import contextlib
import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt
import soundfile

from pyserver.audio.float_wav import FloatWav
from pyserver.errors import DiskFull, StemlineError

Block = npt.NDArray[np.float32]

BLOCK_FRAMES = 1 << 16
FORMATS = ("wav", "flac")
_FLAC_MAX_CHANNELS, _FLAC_MAX_RATE_HZ = 8, 655_350


class AudioFileMissing(StemlineError):
    reason = "FILE_NOT_FOUND"


class NotAudio(StemlineError):
    reason = "UNSUPPORTED_AUDIO"


class EmptyAudio(StemlineError):
    reason = "EMPTY_AUDIO"


class TruncatedAudio(StemlineError):
    reason = "TRUNCATED_AUDIO"


class NonFiniteAudio(StemlineError):
    reason = "NON_FINITE_AUDIO"


class OverFullScale(StemlineError):
    """A fixed-point format cannot hold the samples; nothing was clipped, nothing was written."""

    reason = "OVER_FULL_SCALE"


class NotWritable(StemlineError):
    reason = "NOT_WRITABLE"


class AudioFile:
    """A song to be read from its start, as often as wanted. Raises AudioFileMissing, NotAudio or EmptyAudio."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            what = "is a directory, not a song" if path.is_dir() else "does not exist"
            raise AudioFileMissing(f"{path} {what}", path=path)
        if path.stat().st_size == 0:
            raise EmptyAudio(f"{path} is an empty file", path=path)
        with self._open() as file:
            self.sample_rate_hz: int = file.samplerate
            self.channels: int = file.channels
            self.num_samples: int = _promised_frames(path, file)
            self.format: str = f"{file.format} {file.subtype}"
        if self.num_samples == 0:
            raise EmptyAudio(f"{path} contains no audio (0 samples)", path=path)

    def blocks(self, frames: int = BLOCK_FRAMES) -> Iterator[Block]:
        """(N, C) blocks in order, N = `frames` but for the last.

        Raises TruncatedAudio if the file ends before the length its header promises, NonFiniteAudio for NaN or Inf.
        """
        position = 0
        with self._open() as file:
            while position < self.num_samples:
                block = self._read(file, min(frames, self.num_samples - position), position)
                self._require_finite(block, position)
                position += len(block)
                yield block

    def check(self) -> None:
        """Read all of it, for its errors."""
        for _ in self.blocks():
            pass

    def _open(self) -> soundfile.SoundFile:
        try:
            return soundfile.SoundFile(self.path)
        except soundfile.SoundFileError as error:
            raise NotAudio(f"{self.path} is not audio that can be read ({_detail(error)})", path=self.path) from error
        except OSError as error:
            raise NotAudio(f"{self.path} cannot be read ({error.strerror})", path=self.path) from error

    def _read(self, file: soundfile.SoundFile, frames: int, position: int) -> Block:
        try:
            block: Block = file.read(frames, dtype="float32", always_2d=True)
        except soundfile.SoundFileError as error:
            raise self._truncated(position, _detail(error)) from error
        if len(block) < frames:
            raise self._truncated(position + len(block), "")
        return block

    def _truncated(self, delivered: int, detail: str) -> TruncatedAudio:
        return TruncatedAudio(
            f"{self.path} breaks off: its header promises {self._at(self.num_samples)}, the data ends at "
            f"{self._at(delivered)}{f' ({detail})' if detail else ''}",
            path=self.path,
            promised_samples=self.num_samples,
            delivered_samples=delivered,
        )

    def _require_finite(self, block: Block, position: int) -> None:
        finite = np.isfinite(block)
        if finite.all():
            return
        frame, channel = (int(index) for index in np.argwhere(~finite)[0])
        where = position + frame
        value = "NaN" if np.isnan(block[frame, channel]) else "Inf"
        raise NonFiniteAudio(
            f"{self.path} has {value} at sample {where} ({self._at(where)}), channel {channel + 1}; "
            "export it again or repair it",
            path=self.path,
            sample=where,
            channel=channel + 1,
        )

    def _at(self, sample: int) -> str:
        return f"{sample / self.sample_rate_hz:.3f} s"


class AudioWriter:
    """Writes `path` beside itself and renames it when all is on disk: what stands at `path` is always complete.

    As a context manager it commits on success and leaves nothing behind on an error. WAV is 32-bit float (RF64 where
    4 GB are not enough); FLAC is 24 bit, so samples are rounded to 2^-23 and levels over full scale are refused.
    Raises DiskFull, NotWritable, OverFullScale or NotAudio (a format that cannot hold such audio).
    """

    def __init__(self, path: Path, sample_rate_hz: int, channels: int, num_samples: int, kind: str = "wav") -> None:
        self.path = path
        self._kind = kind
        _require_writable_shape(path, kind, sample_rate_hz, channels)
        with writing_to(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        self._temporary = Path(name)
        self._finished = False
        self._sink = _Sink(handle)
        self._file: _Encoder
        if kind == "wav":
            self._file = FloatWav(self._sink, sample_rate_hz, channels, num_samples)
        else:
            self._file = soundfile.SoundFile(self._sink, "w", sample_rate_hz, channels, "PCM_24", format="FLAC")

    def write(self, block: Block) -> None:
        """Append (N, C) samples."""
        peak = float(np.abs(block).max(initial=0.0))
        if self._kind == "flac" and peak > 1.0:
            raise OverFullScale(
                f"{self.path}: the samples exceed full scale by {20 * np.log10(peak):.1f} dB, which FLAC cannot hold; "
                "write WAV (--format wav) or lower the song's level",
                path=self.path,
            )
        self._checked(lambda: self._file.write(block))

    def finish(self) -> None:
        """Write the end of the file and flush all of it to disk; `commit` cannot run out of space after this."""
        if not self._finished:
            self._checked(self._file.close)
            with writing_to(self.path):
                self._sink.sync()
                self._sink.close()
                self._temporary.chmod(0o666 & ~_umask())
            self._finished = True

    def commit(self) -> Path:
        """Finish and rename. Returns `path`, which now is a finished file."""
        self.finish()
        with writing_to(self.path):
            self._temporary.replace(self.path)
        return self.path

    def discard(self) -> None:
        """Remove what was written so far; `path` stays as it was. Does nothing after `commit`."""
        with contextlib.suppress(soundfile.SoundFileError, AssertionError):
            self._file.close()
        self._sink.close()
        self._temporary.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            if kind is None:
                self.commit()
        finally:
            self.discard()

    def _checked(self, action: Callable[[], None]) -> None:
        with writing_to(self.path):
            try:
                action()
            except (soundfile.SoundFileError, AssertionError) as error:  # an assertion is its word for a short write
                raise self._sink.error or NotWritable(f"{self.path}: {_detail(error)}", path=self.path) from error
            if self._sink.error is not None:
                raise self._sink.error


class _Encoder(Protocol):
    """What AudioWriter needs of a file format."""

    def write(self, data: Block, /) -> None: ...
    def close(self) -> None: ...


class _Sink:
    """A file for libsndfile to write through, which remembers the operating system's error that it would swallow."""

    def __init__(self, handle: int) -> None:
        self._file = os.fdopen(handle, "wb", buffering=0)
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        done = 0
        try:
            while done < len(data):
                done += self._file.write(data[done:])
        except OSError as error:
            self.error = self.error or error
        return done

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def sync(self) -> None:
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


@contextlib.contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """Turn what the operating system says about writing `path` into DiskFull or NotWritable."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"no space left for {path}; free some and run the same command again", path=path) from error
        raise NotWritable(f"{path} cannot be written ({error.strerror or error})", path=path) from error


def _require_writable_shape(path: Path, kind: str, sample_rate_hz: int, channels: int) -> None:
    if kind not in FORMATS:
        raise ValueError(f"no audio format called {kind}")
    if kind == "flac" and (channels > _FLAC_MAX_CHANNELS or sample_rate_hz > _FLAC_MAX_RATE_HZ):
        raise NotAudio(
            f"{path}: FLAC cannot hold {channels} channels at {sample_rate_hz} Hz; use --format wav", path=path
        )


def _promised_frames(path: Path, file: soundfile.SoundFile) -> int:
    """Frames that the header promises; for a WAV that may be more than libsndfile finds and quietly reports."""
    frames = int(file.frames)
    if file.format in {"WAV", "WAVEX"}:
        promised = _wav_data_bytes(path) // _wav_frame_bytes(file)
        return max(frames, promised)
    return frames


def _wav_frame_bytes(file: soundfile.SoundFile) -> int:
    width = {"PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8, "ULAW": 1, "ALAW": 1}
    return width.get(file.subtype, 1 << 62) * int(file.channels)


def _wav_data_bytes(path: Path) -> int:
    """The size that a RIFF file's data chunk claims; 0 where it claims none (as streamed files do)."""
    with path.open("rb") as file:
        if file.read(12)[:4] != b"RIFF":
            return 0
        while len(head := file.read(8)) == 8:
            size = int.from_bytes(head[4:], "little")
            if head[:4] == b"data":
                return 0 if size >= 0xFFFF_FF00 else size
            file.seek(size + size % 2, os.SEEK_CUR)
    return 0


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _detail(error: Exception) -> str:
    return str(getattr(error, "error_string", error)).strip().rstrip(".")
