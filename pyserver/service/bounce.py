"""The Bounce service: jobs over the wire."""

from collections.abc import AsyncIterator

import google_crc32c
import grpc
from stems.v1 import bounce_pb2

from pyserver.errors import StemlineError
from pyserver.separation.jobs import JobSpec
from pyserver.service import wire
from pyserver.service.channel import CHUNK_BYTES
from pyserver.service.core import Core, until_draining
from pyserver.service.errors import InvalidRequest

MAX_CHUNK_BYTES = 2 * 1024 * 1024  # well under the message limit
MAX_PAGE, DEFAULT_PAGE = 1000, 100
MAX_REQUEST_ID = 200
MAX_OFFSET = 2**62


class UploadCorrupted(StemlineError):
    """A chunk is not what the client meant to send; nothing of it was kept. Metadata: `offset`, `committed_bytes`."""

    reason = "UPLOAD_CORRUPTED"


def check_request_id(request_id: str) -> None:
    if not 1 <= len(request_id) <= MAX_REQUEST_ID:
        raise InvalidRequest(f"request_id must have 1 to {MAX_REQUEST_ID} characters; a random UUID is a good one")


class BounceService:
    """stems.v1.BounceService on BounceRunner."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._runner = core.runner

    async def CreateJob(
        self, request: bounce_pb2.CreateJobRequest, context: grpc.aio.ServicerContext
    ) -> bounce_pb2.Job:
        check_request_id(request.request_id)
        wire.check_audio(request.audio)
        card = await self._core.card(request.model, "separate")
        settings = wire.settings(request.quality, card)
        spec = JobSpec(
            model=card.name,
            refiner_steps=settings.refiner_steps,
            noise_seed=settings.noise_seed,
            sample_rate_hz=request.audio.sample_rate_hz,
            channels=request.audio.channels,
            num_samples=request.num_samples,
            stems=tuple(request.stems),
        )
        return wire.job(await self._runner.create(request.request_id, spec))

    async def UploadInput(
        self, requests: AsyncIterator[bounce_pb2.UploadRequest], context: grpc.aio.ServicerContext
    ) -> bounce_pb2.UploadStatus:
        job_id = ""
        async for request in requests:
            self._core.refuse_if_draining()
            kind = request.WhichOneof("kind")
            if job_id == "" and kind == "job_id" and request.job_id:
                job_id = request.job_id
                committed = (await self._runner.get(job_id)).committed_bytes
            elif job_id and kind == "chunk":
                committed = await self._append(job_id, request.chunk, committed)
            else:
                raise InvalidRequest("an upload is one message with the job_id, then messages with a chunk each")
        if not job_id:
            raise InvalidRequest("an upload begins with the job_id")
        return bounce_pb2.UploadStatus(committed_bytes=committed)

    async def _append(self, job_id: str, chunk: bounce_pb2.UploadChunk, committed: int) -> int:
        if google_crc32c.value(chunk.data) != chunk.crc32c:
            raise UploadCorrupted(
                f"the chunk at byte {chunk.offset} arrived damaged; go on from byte {committed}",
                offset=chunk.offset,
                committed_bytes=committed,
            )
        job = await self._runner.append_input(job_id, chunk.offset, chunk.data)
        return job.committed_bytes

    async def GetJob(self, request: bounce_pb2.GetJobRequest, context: grpc.aio.ServicerContext) -> bounce_pb2.Job:
        return wire.job(await self._runner.get(request.job_id))

    async def ListJobs(
        self, request: bounce_pb2.ListJobsRequest, context: grpc.aio.ServicerContext
    ) -> bounce_pb2.ListJobsResponse:
        size = min(request.page_size or DEFAULT_PAGE, MAX_PAGE)
        jobs = await self._runner.list_jobs(after=request.page_token, limit=size + 1)
        more = len(jobs) > size
        page = jobs[:size]
        return bounce_pb2.ListJobsResponse(
            jobs=[wire.job(job) for job in page], next_page_token=page[-1].job_id if more else ""
        )

    async def WatchJob(
        self, request: bounce_pb2.WatchJobRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[bounce_pb2.JobEvent]:
        changes = self._runner.watch(request.job_id, request.after_event)
        async for job in until_draining(self._core, changes):
            yield bounce_pb2.JobEvent(sequence=job.sequence, job=wire.job(job))

    async def ReadStem(
        self, request: bounce_pb2.ReadStemRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[bounce_pb2.StemBytes]:
        size = min(request.chunk_bytes or CHUNK_BYTES, MAX_CHUNK_BYTES)
        offset = request.offset
        if offset > MAX_OFFSET:
            raise InvalidRequest(f"offset is {offset}; no file is that long")
        while data := await self._runner.read_stem(request.job_id, request.stem, offset, size):
            self._core.refuse_if_draining()
            yield bounce_pb2.StemBytes(offset=offset, data=data, crc32c=google_crc32c.value(data))
            offset += len(data)

    async def CancelJob(
        self, request: bounce_pb2.CancelJobRequest, context: grpc.aio.ServicerContext
    ) -> bounce_pb2.Job:
        return wire.job(await self._runner.cancel(request.job_id))

    async def DeleteJob(
        self, request: bounce_pb2.DeleteJobRequest, context: grpc.aio.ServicerContext
    ) -> bounce_pb2.DeleteJobResponse:
        await self._runner.delete(request.job_id)
        return bounce_pb2.DeleteJobResponse()
