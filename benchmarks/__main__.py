"""`make bench`: one table of ratios, each measured against its reference in this very run, in some ten minutes.

Medians of a few runs on an otherwise idle machine; on a busy one only the ratios between our own rows mean something.
What takes songs, much longer or a GPU is not in it: BS-RoFormer in benchmarks.full_size, and benchmarks.gpu, .latency,
.memory, .live, .backends, .training_step.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import soundfile

from benchmarks import full_size, sessions, start, transport
from benchmarks.peers import ht_demucs
from benchmarks.table import Row, show
from pyserver.allocator import keep_freed_memory
from pyserver.engine.messages import Audio
from pyserver.models.catalogue import DEFAULT_MODEL
from training.separate import local_separator

SONG = Path(__file__).parent.parent / "examples" / "stemline_demo.flac"
RUNS = 3


def seconds(call: Callable[[], object], runs: int = RUNS) -> float:
    """Median wall time; the first, cold run is thrown away."""
    call()
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def separation(song_CN: Audio) -> dict[int, float]:
    """Seconds of the whole song through windows, pipeline and overlap-add, by refiner steps."""
    found = {}
    for steps in (0, 1):
        _, separate = local_separator(DEFAULT_MODEL, steps)
        found[steps] = seconds(partial(separate, song_CN))
    return found


def against_ht_demucs(song_CN: Audio, times: dict[int, float]) -> list[Row]:
    peer = ht_demucs()
    if peer is None:
        print("HT-Demucs is not in build/peers: `make bench` installs it", file=sys.stderr)
        return []
    theirs = seconds(partial(peer, song_CN), runs=1)
    name = "HT-Demucs, random weights, no overlap"
    return [
        Row(f"{DEFAULT_MODEL}, separator alone", name, times[0] / theirs, 0.25),
        Row(f"{DEFAULT_MODEL}, one refiner step", name, times[1] / theirs, 0.5),
    ]


def bounce(folder: Path) -> float:
    """Seconds of a whole command: start a server, upload, separate, download, write, stop."""
    command = [sys.executable, "-m", "pyserver", "bounce", str(SONG), "-o", str(folder), "--overwrite", "--cpu"]
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - began


def shipped_model() -> list[Row]:
    keep_freed_memory()  # as the engine process does
    audio, rate = soundfile.read(SONG, dtype="float32", always_2d=True)
    song_CN, duration_s = audio.T.copy(), len(audio) / rate
    times = separation(song_CN)
    rows = [
        Row(f"{DEFAULT_MODEL}, all stems, separator alone", "the song's duration", times[0] / duration_s),
        Row(f"{DEFAULT_MODEL}, all stems, one refiner step", "the song's duration", times[1] / duration_s, 0.15),
        Row("one refiner step", "the separator alone", times[1] / times[0] - 1),
    ]
    rows += against_ht_demucs(song_CN, times)
    with tempfile.TemporaryDirectory() as folder:
        whole = bounce(Path(folder))
    rows.append(
        Row("`bounce` with a server's start and stop, gRPC and files", "the song's duration", whole / duration_s)
    )
    return rows


def main() -> None:
    show(
        {
            "python -m benchmarks": shipped_model(),
            "python -m benchmarks.start": start.rows(start.Arguments()),
            "python -m benchmarks.transport --minutes 0.5": transport.rows(transport.Arguments(minutes=0.5)),
            "python -m benchmarks.sessions": sessions.rows(sessions.Arguments()),
            "python -m benchmarks.full_size --model unet": full_size.rows(full_size.Arguments(model="unet")),
        }
    )


if __name__ == "__main__":
    main()
