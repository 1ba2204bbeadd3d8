"""Runs the real command line as a user does, in processes of its own."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

ROOT = Path(__file__).resolve().parent.parent
STEMS = ("bass", "drums", "guitar", "piano", "other")
OUTPUTS = {*STEMS, "residual"}


@dataclass(frozen=True)
class Home:
    """A user of their own: home, models, environment."""

    path: Path
    models: Path

    @property
    def environment(self) -> dict[str, str]:
        ours = {
            "STEMLINE_HOME": str(self.path),
            "STEMLINE_MODELS": str(self.models),
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "200",
        }
        return {**os.environ, **ours}

    def run(self, *arguments: object, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(*arguments), env=self.environment, capture_output=True, text=True, timeout=timeout, check=False
        )

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command(*arguments), env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    @contextlib.contextmanager
    def server(self, *arguments: object) -> Iterator[subprocess.Popen[str]]:
        process = self.start("serve", "--cpu", "--threads", "1", *arguments)
        assert process.stdout is not None
        line = process.stdout.readline()
        if "is ready" not in line:
            process.kill()
            raise AssertionError(f"the server did not start: {line}{process.communicate()[1]}")
        try:
            yield process
        finally:
            stop(process)


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "pyserver", *map(str, arguments)]


def stop(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()


def copy_models(models: Path, to: Path) -> Path:
    shutil.copytree(models, to)
    return to


def noise(seconds: float, rate: int = 44100, channels: int = 2) -> npt.NDArray[np.float32]:
    shape = (round(seconds * rate), channels)
    return (np.random.default_rng(0).standard_normal(shape) * 0.1).astype(np.float32)


def song(
    path: Path, audio: npt.NDArray[np.float32] | None = None, rate: int = 44100, subtype: str | None = "FLOAT"
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, noise(1.0) if audio is None else audio, rate, subtype)
    return path


def read(path: Path) -> tuple[npt.NDArray[np.float64], int]:
    audio, rate = soundfile.read(path, dtype="float64", always_2d=True)
    return audio, rate


def outputs(directory: Path) -> set[str]:
    return {path.stem for path in directory.iterdir()}


def require_whole(source: Path, directory: Path) -> None:
    """The promise of `bounce`: same rate, length and channels; stems and residual sum to the song."""
    audio, rate = read(source)
    total = np.zeros_like(audio)
    assert outputs(directory) == OUTPUTS
    for path in directory.iterdir():
        stem, stem_rate = read(path)
        assert stem.shape == audio.shape
        assert stem_rate == rate
        total += stem
    assert np.abs(total - audio).max() <= 1e-6


def wait_until(true: object, limit_s: float = 30.0) -> None:
    """Waits for `true()`."""
    assert callable(true)
    until = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.02)
