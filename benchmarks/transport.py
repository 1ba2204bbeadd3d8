"""What a server costs beside its model, by a model that gives fixed shares of the mixture for stems:

    python -m benchmarks.transport                 # 16 sessions for 10 minutes, then a song there and back
    python -m benchmarks.transport --minutes 0.5

Live: real time, stereo at 44.1 kHz, all sessions out of one client, once as the plugin opens them by default (3 s of
latency) and once at the shortest hop. The cost is CPU time of the server's two processes. Bounce: bytes of a song that
go up and of its stems that come down, against as many through a Unix socket between two processes, from a file and into
one, in messages of the same size.
"""

import asyncio
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import google_crc32c
import numpy as np
import numpy.typing as npt
import tyro
from stems.v1 import audio_pb2, bounce_pb2

from benchmarks.serving import INSTANT, INSTANT_LONG, Running, serving, write_instant_models
from benchmarks.table import Row, show
from pyserver.cli.live_stream import LiveClient, LiveSettings
from pyserver.collector import pass_over_what_is_imported
from pyserver.service.channel import CHUNK_BYTES, Connection, connect

RATE_HZ = 44100
WARM_UP_S = 3.0
_TURNS = 5  # of a song there and back


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    minutes: float = 10.0
    """Of real time."""
    sessions: int = 16
    song_s: float = 120.0
    """Of the song that is bounced; 0: none."""


@dataclass(frozen=True, slots=True)
class Use:
    """How sessions are opened. `block`: samples in a message of the client's."""

    model: str
    max_latency_s: float | None
    block: int


DEFAULT_USE = Use(INSTANT_LONG, 2.9, 4096)  # what the plugin asks for at its default latency
SHORTEST_USE = Use(INSTANT, None, 512)


@dataclass(frozen=True, slots=True)
class Live:
    cost: float
    """CPU seconds of the server for a second of a session."""
    engine: float
    """What of it was the engine's."""
    missing_s: float
    hop_s: float
    latency_s: float


async def live(server: Running, use: Use, arguments: Arguments) -> Live:
    """Many sessions in real time; samples that were not there when they were due are counted."""
    pass_over_what_is_imported()  # the client is not what is measured, and torch is in it
    async with await connect(server.target) as connection:
        clients = [LiveClient(connection, settings(use, seed)) for seed in range(arguments.sessions)]
        running = [asyncio.create_task(client.run()) for client in clients]
        ready = [await client.ready for client in clients]
        await play(clients, use.block, WARM_UP_S + (use.max_latency_s or 0.0))
        before, missing = server.cpu_s(), sum(client.missing_samples for client in clients)
        began = time.monotonic()
        await play(clients, use.block, 60 * arguments.minutes)
        spent, took = server.cpu_s(), time.monotonic() - began
        missing = sum(client.missing_samples for client in clients) - missing
        for client in clients:
            client.finish()
        await asyncio.gather(*running)
    used = {role: (spent[role] - before[role]) / (arguments.sessions * took) for role in spent}
    return Live(
        cost=sum(used.values()),
        engine=used["engine"],
        missing_s=missing / RATE_HZ,
        hop_s=ready[0].hop_samples / RATE_HZ,
        latency_s=ready[0].latency_samples / RATE_HZ,
    )


async def play(clients: list[LiveClient], size: int, seconds: float) -> None:
    """Blocks at the pace of real time."""
    noise_NC = np.random.default_rng(0).standard_normal((size, 2)).astype(np.float32) * np.float32(0.1)
    began = time.monotonic()
    for block in range(round(seconds * RATE_HZ / size)):
        await asyncio.sleep(max(0.0, began + block * size / RATE_HZ - time.monotonic()))
        for client in clients:
            client.exchange(noise_NC)


def settings(use: Use, seed: int) -> LiveSettings:
    return LiveSettings(
        model=use.model,
        sample_rate_hz=RATE_HZ,
        channels=2,
        block_samples=use.block,
        stems=(),
        steps=0,
        seed=seed,
        max_latency_s=use.max_latency_s,
    )


async def bounce(server: Running, song_NC: npt.NDArray[np.float32]) -> tuple[float, float, int]:
    """Seconds of the way up, seconds of the way down, bytes that came down."""
    data = song_NC.tobytes()
    async with await connect(server.target) as connection:
        job = await connection.bounce.CreateJob(
            bounce_pb2.CreateJobRequest(
                request_id=str(uuid.uuid4()),
                audio=audio_pb2.AudioSpec(sample_rate_hz=RATE_HZ, channels=2),
                num_samples=len(song_NC),
                model=INSTANT,
            )
        )
        began = time.monotonic()
        await connection.bounce.UploadInput(_chunks(job.job_id, data))
        up_s = time.monotonic() - began
        async for event in connection.bounce.WatchJob(bounce_pb2.WatchJobRequest(job_id=job.job_id)):
            job = event.job
        assert job.state == bounce_pb2.JOB_STATE_SUCCEEDED, job.error.message
        began = time.monotonic()
        down = sum([await _read(connection, job.job_id, output.stem) for output in job.outputs])
        down_s = time.monotonic() - began
        await connection.bounce.DeleteJob(bounce_pb2.DeleteJobRequest(job_id=job.job_id))
    return up_s, down_s, down


async def _chunks(job_id: str, data: bytes) -> AsyncIterator[bounce_pb2.UploadRequest]:
    yield bounce_pb2.UploadRequest(job_id=job_id)
    for offset in range(0, len(data), CHUNK_BYTES):
        piece = data[offset : offset + CHUNK_BYTES]
        chunk = bounce_pb2.UploadChunk(offset=offset, data=piece, crc32c=google_crc32c.value(piece))
        yield bounce_pb2.UploadRequest(chunk=chunk)


async def _read(connection: Connection, job_id: str, stem: str) -> int:
    count = 0
    async for piece in connection.bounce.ReadStem(bounce_pb2.ReadStemRequest(job_id=job_id, stem=stem)):
        assert piece.crc32c == google_crc32c.value(piece.data)
        count += len(piece.data)
    return count


_RECEIVER = """
import os, socket, sys
path, out, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
with socket.socket(socket.AF_UNIX) as server, open(out, "wb") as file:
    server.bind(path)
    server.listen(1)
    peer, _ = server.accept()
    while data := peer.recv(size):
        file.write(data)
    file.flush()
    os.fsync(file.fileno())
    peer.sendall(b".")
"""


def raw_socket_s(folder: Path, count: int) -> float:
    """Seconds for so many bytes out of a file, through a Unix socket, into another process's file on the disk."""
    source, path = folder / "source", folder / "socket"
    source.write_bytes(os.urandom(CHUNK_BYTES) * -(-count // CHUNK_BYTES))
    arguments = [str(path), str(folder / "received"), str(CHUNK_BYTES)]
    with subprocess.Popen([sys.executable, "-c", _RECEIVER, *arguments]), socket.socket(socket.AF_UNIX) as peer:
        while True:
            try:
                peer.connect(str(path))
                break
            except OSError:
                time.sleep(0.01)
        began = time.monotonic()
        with source.open("rb") as file:
            while data := file.read(CHUNK_BYTES):
                peer.sendall(data)
        peer.shutdown(socket.SHUT_WR)
        peer.recv(1)
        return time.monotonic() - began


def rows(arguments: Arguments) -> list[Row]:
    measured = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found_by = write_instant_models(folder / "models")
        with serving(folder / "home", ("--model", INSTANT), found_by) as server:
            for use in (DEFAULT_USE, SHORTEST_USE):
                measured += live_rows(asyncio.run(live(server, use, arguments)), use, arguments)
            if arguments.song_s:
                song_NC = np.zeros((round(arguments.song_s * RATE_HZ), 2), np.float32)
                song_NC[:] = np.random.default_rng(0).standard_normal(2) * 0.1
                measured += bounce_rows(server, song_NC, folder)
    return measured


def bounce_rows(server: Running, song_NC: npt.NDArray[np.float32], folder: Path) -> list[Row]:
    """Medians over turns: a disk is sometimes slow."""
    ups, downs, down = [], [], 0
    for _ in range(_TURNS):
        up_s, down_s, down = asyncio.run(bounce(server, song_NC))
        ups.append(up_s / raw_socket_s(_fresh(folder), song_NC.nbytes))
        downs.append(down_s / raw_socket_s(_fresh(folder), down))
    peer, limit = "a raw Unix socket", 2.0
    return [
        Row(f"a song up, {song_NC.nbytes / 1e6:.0f} MB", peer, statistics.median(ups), limit),
        Row(f"its stems down, {down / 1e6:.0f} MB", peer, statistics.median(downs), limit),
    ]


def live_rows(found: Live, use: Use, arguments: Arguments) -> list[Row]:
    sessions = f"a live session of {arguments.sessions}"
    what = f"{sessions}, hop {1000 * found.hop_s:.0f} ms, blocks of {use.block}"
    total_s = 60 * arguments.minutes * arguments.sessions
    return [
        Row(f"{what}: CPU time", "real time", found.cost, 0.01),
        Row(f"{what}: the engine's part", "real time", found.engine),
        Row(
            f"{what}, latency {1000 * found.latency_s:.0f} ms: {found.missing_s:g} s late",
            f"all {total_s:.0f} s",
            found.missing_s / total_s,
            0.0,
        ),
    ]


def _fresh(folder: Path) -> Path:
    return Path(tempfile.mkdtemp(dir=folder))


if __name__ == "__main__":
    show({"python -m benchmarks.transport": rows(tyro.cli(Arguments))})
