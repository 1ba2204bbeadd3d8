"""How soon a fresh server is of use:

    python -m benchmarks.start

From the start of the process to health `SERVING`, and to the stems of a first live window, with the shipped model,
torch's import included; medians.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from stems.v1 import audio_pb2, live_pb2

from benchmarks.serving import Running, serving
from benchmarks.table import Row, show
from pyserver.service.channel import connect

SERVING_LIMIT_S, WINDOW_LIMIT_S = 3.0, 6.0
RATE_HZ, BLOCK = 44100, 4410
IDLE_LIMIT_BYTES = 700e6
IDLE_S = 7.0  # by then the engine has given back what it keeps for windows


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    runs: int = 5


@dataclass(frozen=True, slots=True)
class Start:
    serving_s: float
    window_s: float
    cpu_s: float
    """Of both processes, until they serve."""
    idle_bytes: int
    """Of both processes, once they are idle."""


async def first_stems_s(server: Running) -> float:
    """Seconds from the start of the process to a live session's first stems."""
    spec = audio_pb2.AudioSpec(sample_rate_hz=RATE_HZ, channels=2, format=audio_pb2.SAMPLE_FORMAT_F32_LE)
    opened = live_pb2.LiveOpen(audio=spec, block_samples=BLOCK)
    noise_CN = np.random.default_rng(0).standard_normal((2, BLOCK)).astype("<f4") * np.float32(0.1)

    async def requests() -> AsyncIterator[live_pb2.LiveRequest]:
        yield live_pb2.LiveRequest(open=opened)
        for index in range(10 * RATE_HZ // BLOCK):  # as fast as the server reads, which is faster than real time
            block = audio_pb2.Block(start_sample=index * BLOCK, num_samples=BLOCK, samples=noise_CN.tobytes())
            yield live_pb2.LiveRequest(audio=block)

    async with await connect(server.target) as connection:
        async for response in connection.live.Separate(requests()):
            if response.HasField("audio"):
                return time.monotonic() - server.started
    raise SystemExit("the session ended without stems")


def once(folder: Path) -> Start:
    with serving(folder) as server:
        serving_s, cpu_s = time.monotonic() - server.started, sum(server.cpu_s().values())
        time.sleep(IDLE_S)
        idle_bytes = server.unique_bytes()
        waited = time.monotonic() - server.started - serving_s
        return Start(serving_s, asyncio.run(first_stems_s(server)) - waited, cpu_s, idle_bytes)


def rows(arguments: Arguments) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        found = [once(Path(folder) / str(run)) for run in range(arguments.runs)]

    def median(name: str) -> float:
        return float(statistics.median(getattr(each, name) for each in found))

    return [
        Row("process start to SERVING", "1 s", median("serving_s"), SERVING_LIMIT_S),
        Row("process start to a live session's first stems", "1 s", median("window_s"), WINDOW_LIMIT_S),
        Row("CPU time of both processes until SERVING", "1 s", median("cpu_s")),
        Row(
            "idle with the shipped model: memory of its own", "1 GB", median("idle_bytes") / 1e9, IDLE_LIMIT_BYTES / 1e9
        ),
    ]


if __name__ == "__main__":
    show({"python -m benchmarks.start": rows(tyro.cli(Arguments))})
