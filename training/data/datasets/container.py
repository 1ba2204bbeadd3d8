"""One audio stream of an MP4, decoded by the program `ffmpeg`. Axes: L samples, C channels."""

import functools
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import numpy.typing as npt

from training.data.datasets.errors import BrokenSong, NoFfmpeg


@functools.lru_cache(maxsize=8)
def audio_streams(path: Path) -> tuple[tuple[int, int], ...]:
    """(rate in Hz, channels) of every audio stream."""
    listing = _run(path, "ffprobe", "-select_streams", "a", "-show_streams", "-of", "json", str(path))
    streams = json.loads(listing)["streams"]
    return tuple((int(stream["sample_rate"]), int(stream["channels"])) for stream in streams)


def read_stream(path: Path, stream: int) -> tuple[npt.NDArray[np.float32], int]:
    """(L, C) float32 and the rate of the audio stream with that number, counted among the audio streams."""
    rate, channels = audio_streams(path)[stream]
    raw = _run(path, "ffmpeg", "-nostdin", "-xerror", "-i", str(path), "-map", f"0:a:{stream}", "-f", "f32le", "-")
    return np.frombuffer(raw, "<f4").astype(np.float32).reshape(-1, channels), rate


def _run(path: Path, program: str, *arguments: str) -> bytes:
    found = shutil.which(program)
    if found is None:
        raise NoFfmpeg(path)
    done = subprocess.run([found, "-v", "error", *arguments], capture_output=True, check=False)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise BrokenSong(path.parent, path, "an MP4 with AAC streams", f"{program} says: {said[-1] if said else '?'}")
    return done.stdout
