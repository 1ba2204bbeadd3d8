"""The Generate service: jobs that make stems from nothing, or such as go with others. BounceService does the rest."""

import grpc
from stems.v1 import bounce_pb2, generate_pb2

from pyserver.separation.jobs import JobKind, JobSpec
from pyserver.service import wire
from pyserver.service.bounce import check_request_id
from pyserver.service.core import Core


class GenerateService:
    """stems.v1.GenerateService on BounceRunner."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def CreateGeneration(
        self, request: generate_pb2.CreateGenerationRequest, context: grpc.aio.ServicerContext
    ) -> bounce_pb2.Job:
        check_request_id(request.request_id)
        wire.check_audio(request.audio)
        card = await self._core.card(request.model, "accompany" if request.known else "generate")
        spec = JobSpec(
            model=card.name,
            refiner_steps=wire.generation_steps(request.steps if request.HasField("steps") else None, card),
            noise_seed=request.noise_seed,
            sample_rate_hz=request.audio.sample_rate_hz,
            channels=request.audio.channels,
            num_samples=request.num_samples,
            stems=tuple(request.stems),
            kind=JobKind.GENERATE,
            known=tuple(request.known),
        )
        return wire.job(await self._core.runner.create(request.request_id, spec))
