"""One job on its way through a server, whatever kind it is: created, fed, followed, fetched, deleted.

A job is named by what goes into it and where its stems go, so the same command finds the job that an earlier one began,
whatever became of that command or of the server.
"""

import asyncio
import contextlib
import functools
import hashlib
import json
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Protocol

import google_crc32c
from rich.progress import Progress
from stems.v1 import bounce_pb2, bounce_pb2_grpc

from pyserver.audio.files import Block
from pyserver.cli import console
from pyserver.service.channel import CHUNK_BYTES, remote_error

_CANCEL_LIMIT_S = 5.0


class Source(Protocol):
    """Audio to be sent, read from its start as often as wanted."""

    @property
    def sample_rate_hz(self) -> int: ...
    @property
    def channels(self) -> int: ...

    def blocks(self, frames: int = ...) -> Iterator[Block]:
        """(N, C) in order, N = `frames` but for the last. Raises what is wrong with the audio."""
        ...


class JobRun:
    """A job and its line on the screen; `doing` says what the server does meanwhile."""

    def __init__(self, stub: bounce_pb2_grpc.BounceServiceStub, progress: Progress, label: str, doing: str) -> None:
        self._stub, self._progress, self._label, self._doing = stub, progress, label, doing
        self._task = progress.add_task(label, total=None, speed="", left="")

    async def run(
        self,
        created: Awaitable[bounce_pb2.Job],
        source: Source | None,
        sample_rate_hz: int,
        save: Callable[[bounce_pb2.Job], Awaitable[list[Path]]],
    ) -> list[Path]:
        """The files that `save` has made of the finished job. Cancelled, it cancels the job."""
        job = await created
        try:
            if job.state == bounce_pb2.JOB_STATE_AWAITING_INPUT:
                assert source is not None, "only jobs with an input wait for it"
                await self._upload(source, job)
            job = await self._finished(job.job_id, sample_rate_hz)
            self.show("saving")
            paths = await save(job)
        except asyncio.CancelledError:
            await asyncio.shield(self._cancel(job.job_id))
            raise
        finally:
            self._progress.remove_task(self._task)
        await self._stub.DeleteJob(bounce_pb2.DeleteJobRequest(job_id=job.job_id))
        return paths

    def show(self, what: str) -> None:
        """What is being done now, of which nobody knows how long it takes."""
        self._progress.update(self._task, description=f"{self._label}: {what}", speed="", left="")

    async def _upload(self, source: Source, job: bounce_pb2.Job) -> None:
        self.show("sending")

        async def messages() -> AsyncIterator[bounce_pb2.UploadRequest]:
            yield bounce_pb2.UploadRequest(job_id=job.job_id)
            offset = 0
            async for block in blocks_of(source, CHUNK_BYTES // (4 * source.channels)):
                data = block.tobytes()[max(0, job.committed_bytes - offset) :]
                offset += block.nbytes
                if data:
                    chunk = bounce_pb2.UploadChunk(
                        offset=offset - len(data), data=data, crc32c=google_crc32c.value(data)
                    )
                    yield bounce_pb2.UploadRequest(chunk=chunk)

        await self._stub.UploadInput(messages())

    async def _finished(self, job_id: str, sample_rate_hz: int) -> bounce_pb2.Job:
        """Follows the job to its end. Raises why it failed."""
        job = bounce_pb2.Job()
        async for event in self._stub.WatchJob(bounce_pb2.WatchJobRequest(job_id=job_id)):
            job = event.job
            self._show_progress(job.progress, sample_rate_hz)
        if job.state == bounce_pb2.JOB_STATE_SUCCEEDED:
            return job
        if job.state == bounce_pb2.JOB_STATE_CANCELLED:
            raise remote_error("JOB_CANCELLED", "somebody else cancelled the job", {})
        raise remote_error(job.error.reason or "JOB_FAILED", job.error.message, dict(job.error.metadata))

    async def _cancel(self, job_id: str) -> None:
        with contextlib.suppress(Exception):  # whatever happens now, the user has been told that it is over
            await self._stub.CancelJob(bounce_pb2.CancelJobRequest(job_id=job_id), timeout=_CANCEL_LIMIT_S)

    def _show_progress(self, at: bounce_pb2.Progress, sample_rate_hz: int) -> None:
        elapsed = at.elapsed.ToNanoseconds() / 1e9
        speed = at.done_samples / sample_rate_hz / elapsed if elapsed > 0 else 0.0
        left = at.remaining.ToNanoseconds() / 1e9
        self._progress.update(
            self._task,
            description=f"{self._label}: {self._doing}",
            completed=at.done_samples,
            total=at.total_samples or None,
            speed=f"{speed:.1f}× real time" if speed else "",
            left=f"{console.clock(left)} left" if at.HasField("remaining") else "",
        )


async def digest_of(source: Source) -> str:
    """SHA-256 of all samples. Raises what is wrong with the audio."""
    digest = hashlib.sha256()
    async for block in blocks_of(source):
        digest.update(block.tobytes())
    return digest.hexdigest()


def request_id(kind: str, *named: object) -> str:
    """The same for the same work; `named` is all that tells it from other work, as JSON knows it."""
    return f"{kind}-" + hashlib.sha256(json.dumps(named).encode()).hexdigest()


async def blocks_of(source: Source, frames: int = 1 << 16) -> AsyncIterator[Block]:
    """Each block is read in a thread, so that a cancellation waits for one block and not for the song."""
    blocks = source.blocks(frames)
    following = functools.partial(next, blocks, None)
    while (block := await asyncio.to_thread(following)) is not None:
        yield block


def cancel_on_sigterm() -> None:
    """To be called in the main task: SIGTERM then ends it as Ctrl-C does."""
    if sys.platform != "win32":
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
