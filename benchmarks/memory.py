"""Peak memory of a bounce must not grow with the song:

    python -m benchmarks.memory --minutes 5 120 --model stemline-small --steps 1

Every song gets a server of its own; the peak is the sum over its processes of what is not shared with others.
"""

import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import soundfile
import tyro

RATE_HZ = 44100


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    minutes: tuple[int, ...] = (5, 120)
    model: str = "stemline-small"
    steps: int = 1
    folder: Path | None = None
    """Where the songs and stems go (they are removed); default: the temporary directory."""


def write_song(path: Path, minutes: int) -> None:
    """Noise and tones, different in every second."""
    rng = np.random.default_rng(0)
    with soundfile.SoundFile(path, "w", RATE_HZ, 2, "FLOAT", format="RF64") as file:
        for _ in range(minutes * 60):
            hz = rng.uniform(60, 2000)
            tone = 0.2 * np.sin(np.arange(RATE_HZ) * (2 * np.pi * hz / RATE_HZ))
            file.write((tone[:, None] + 0.05 * rng.standard_normal((RATE_HZ, 2))).astype(np.float32))


def tree_bytes(root: psutil.Process) -> dict[str, int]:
    """Memory of the command's processes by role. Uses the unique set: shared libraries count once in neither run."""
    found: dict[str, int] = {}
    for process in (root, *root.children(recursive=True)):
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            found[str(process.pid)] = process.memory_full_info().uss
    return found


def peak_of_bounce(song: Path, out: Path, arguments: Arguments) -> tuple[int, float]:
    """(peak bytes of client, server and engine together, seconds)."""
    command = [sys.executable, "-m", "pyserver", "bounce", str(song), "-o", str(out), "--cpu", "--overwrite"]
    command += ["--model", arguments.model, "--steps", str(arguments.steps)]
    began, peak = time.perf_counter(), 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as running:
        root = psutil.Process(running.pid)
        while running.poll() is None:
            with suppress(psutil.NoSuchProcess):
                peak = max(peak, sum(tree_bytes(root).values()))
            time.sleep(0.25)
        if running.returncode:
            raise SystemExit(f"bounce failed with exit code {running.returncode}")
    return peak, time.perf_counter() - began


def main(arguments: Arguments) -> None:
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        first: int | None = None
        for minutes in arguments.minutes:
            song = Path(folder) / f"{minutes}min.wav"
            write_song(song, minutes)
            peak, took = peak_of_bounce(song, Path(folder) / "stems", arguments)
            first = peak if first is None else first
            more = (peak - first) / 2**20
            print(f"{minutes:4d} min: peak {peak / 2**20:.0f} MiB ({more:+.0f} MiB), {took:.0f} s", flush=True)
            song.unlink()


if __name__ == "__main__":
    main(tyro.cli(Arguments))
