"""Stems of a finished job into files: all of them or none."""

import asyncio
import contextlib
import hashlib
from pathlib import Path
from typing import Protocol

import google_crc32c
import numpy as np
from stems.v1 import bounce_pb2, bounce_pb2_grpc

from pyserver.audio.files import AudioWriter, OverFullScale
from pyserver.errors import StemlineError
from pyserver.service.channel import CHUNK_BYTES

RESIDUAL = "residual"


class DownloadDamaged(StemlineError):
    reason = "STEM_DAMAGED"


class Shape(Protocol):
    """What every stem of a job has in common."""

    @property
    def sample_rate_hz(self) -> int: ...
    @property
    def channels(self) -> int: ...
    @property
    def num_samples(self) -> int: ...


async def save_stems(
    stub: bounce_pb2_grpc.BounceServiceStub, job: bounce_pb2.Job, directory: Path, audio: Shape, extension: str
) -> list[Path]:
    """Fetch every output of `job` beside its place, then rename them all. Returns the finished files."""
    if extension == "flac":
        _require_full_scale(job)
    with contextlib.ExitStack() as unfinished:
        writers = []
        for output in job.outputs:
            path = directory / f"{output.stem}.{extension}"
            writer = AudioWriter(path, audio.sample_rate_hz, audio.channels, audio.num_samples, extension)
            unfinished.callback(writer.discard)
            await _fetch(stub, job, output, writer, audio.channels)
            await asyncio.to_thread(writer.finish)
            writers.append(writer)
        return [writer.commit() for writer in writers]


async def _fetch(
    stub: bounce_pb2_grpc.BounceServiceStub,
    job: bounce_pb2.Job,
    output: bounce_pb2.StemFile,
    writer: AudioWriter,
    channels: int,
) -> None:
    frame_bytes = 4 * channels
    digest, received, rest = hashlib.sha256(), 0, b""
    chunk_bytes = max(1, CHUNK_BYTES // frame_bytes) * frame_bytes
    request = bounce_pb2.ReadStemRequest(job_id=job.job_id, stem=output.stem, chunk_bytes=chunk_bytes)
    async for piece in stub.ReadStem(request):
        if piece.offset != received or google_crc32c.value(piece.data) != piece.crc32c:
            raise DownloadDamaged(f"stem {output.stem} arrived damaged at byte {received}; run the same command again")
        received += len(piece.data)
        digest.update(piece.data)
        data = rest + piece.data
        whole = len(data) - len(data) % frame_bytes
        rest = data[whole:]
        await asyncio.to_thread(writer.write, np.frombuffer(data[:whole], "<f4").reshape(-1, channels))
    if received != output.bytes or digest.hexdigest() != output.sha256:
        raise DownloadDamaged(f"stem {output.stem} is not what the server computed; run the same command again")


def _require_full_scale(job: bounce_pb2.Job) -> None:
    loud = [output.stem for output in job.outputs if output.peak > 1.0]
    if loud:
        peak = max(output.peak for output in job.outputs)
        raise OverFullScale(
            f"{', '.join(loud)} exceed full scale by up to {20 * np.log10(peak):.1f} dB, which FLAC cannot hold; run "
            "the same command with --format wav",
        )
