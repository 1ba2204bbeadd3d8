"""A real server process for tests, and the few calls that most of them need."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import google_crc32c
import numpy as np
import numpy.typing as npt
from stems.v1 import audio_pb2, bounce_pb2

from pyserver.service.channel import CHUNK_BYTES, Connection, Target

START_TIMEOUT_S = 120
RATE = 44100


@dataclass
class RunningServer:
    process: subprocess.Popen[str]
    home: Path
    ready_line: str

    @property
    def record(self) -> dict[str, object]:
        found: dict[str, object] = json.loads((self.home / "run" / "server.json").read_text())
        return found

    @property
    def target(self) -> Target:
        token = (self.home / "run" / "token").read_text().strip()
        return Target(address=str(self.record["address"]), token=token)

    def log_lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in (self.home / "state" / "server.log").read_text().splitlines()]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def terminate(self, timeout_s: float = 15) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)


def server_command(*options: str) -> list[str]:
    return [sys.executable, "-m", "pyserver", "--cpu", "--threads", "1", "--log-format", "json", *options]


def server_env(home: Path, models: Path) -> dict[str, str]:
    return os.environ | {"STEMLINE_HOME": str(home), "STEMLINE_MODELS": str(models), "OMP_NUM_THREADS": "1"}


@contextmanager
def running_server(home: Path, models: Path, *options: str) -> Iterator[RunningServer]:
    """A server that is ready; killed at the end if it still runs."""
    errors = (home.parent / f"{home.name}.stderr").open("a+")
    process = subprocess.Popen(
        server_command(*options), env=server_env(home, models), stdout=subprocess.PIPE, stderr=errors, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            errors.seek(0)
            raise AssertionError(f"the server did not start: {errors.read()}")
        yield RunningServer(process, home, line)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        assert process.stdout is not None
        process.stdout.close()
        errors.close()


@contextmanager
def starting_server(home: Path, models: Path) -> Iterator[RunningServer]:
    """A server that listens already but may not be ready yet."""
    process = subprocess.Popen(
        server_command(),
        env=server_env(home, models),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        while not (home / "run" / "server.json").exists():
            assert process.poll() is None
            time.sleep(0.01)
        yield RunningServer(process, home, "")
    finally:
        process.kill()
        process.wait()


def song(seconds: float, channels: int = 2, seed: int = 1) -> npt.NDArray[np.float32]:
    """Interleaved noise and tones, shape (samples, channels)."""
    rng = np.random.default_rng(seed)
    time_N = np.arange(round(seconds * RATE)) / RATE
    tones_N = 0.2 * np.sin(2 * np.pi * 110 * time_N) + 0.1 * np.sin(2 * np.pi * 1760 * time_N)
    noise_NC = 0.05 * rng.standard_normal((time_N.size, channels))
    return (tones_N[:, None] + noise_NC).astype(np.float32)


def job_request(song_NC: npt.NDArray[np.float32], **changes: object) -> bounce_pb2.CreateJobRequest:
    num_samples, channels = song_NC.shape
    fields = {
        "request_id": str(uuid.uuid4()),
        "audio": audio_pb2.AudioSpec(sample_rate_hz=RATE, channels=channels),
        "num_samples": num_samples,
        "quality": audio_pb2.Quality(noise_seed=7),
    }
    return bounce_pb2.CreateJobRequest(**(fields | changes))


async def upload_messages(
    job_id: str, data: bytes, start: int = 0, chunk_bytes: int = CHUNK_BYTES
) -> AsyncIterator[bounce_pb2.UploadRequest]:
    yield bounce_pb2.UploadRequest(job_id=job_id)
    for offset in range(start, len(data), chunk_bytes):
        piece = data[offset : offset + chunk_bytes]
        chunk = bounce_pb2.UploadChunk(offset=offset, data=piece, crc32c=google_crc32c.value(piece))
        yield bounce_pb2.UploadRequest(chunk=chunk)


async def submit(server: Connection, song_NC: npt.NDArray[np.float32], **changes: object) -> bounce_pb2.Job:
    """A job with its whole input."""
    job = await server.bounce.CreateJob(job_request(song_NC, **changes))
    await server.bounce.UploadInput(upload_messages(job.job_id, song_NC.tobytes()))
    return job


async def ended(server: Connection, job_id: str) -> bounce_pb2.Job:
    """The job when it has ended."""
    job = None
    async for event in server.bounce.WatchJob(bounce_pb2.WatchJobRequest(job_id=job_id)):
        job = event.job
    assert job is not None
    return job


async def read_stem(server: Connection, job_id: str, stem: str, offset: int = 0, chunk_bytes: int = 0) -> bytes:
    request = bounce_pb2.ReadStemRequest(job_id=job_id, stem=stem, offset=offset, chunk_bytes=chunk_bytes)
    data = b""
    async for piece in server.bounce.ReadStem(request):
        assert piece.offset == offset + len(data)
        assert piece.crc32c == google_crc32c.value(piece.data)
        data += piece.data
    return data


async def stems_of(server: Connection, job: bounce_pb2.Job) -> dict[str, bytes]:
    """Every output, checked against its announced size and checksum."""
    stems = {}
    for output in job.outputs:
        data = await read_stem(server, job.job_id, output.stem)
        assert len(data) == output.bytes
        assert hashlib.sha256(data).hexdigest() == output.sha256
        stems[output.stem] = data
    return stems
