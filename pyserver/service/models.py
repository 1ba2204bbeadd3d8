"""The Models service: what there is, what is loaded."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import grpc
from stems.v1 import audio_pb2, models_pb2

from pyserver.errors import StemlineError
from pyserver.models import catalogue, pull
from pyserver.models.catalogue import CatalogueEntry
from pyserver.service import wire
from pyserver.service.core import Core
from pyserver.service.downloads import Downloads, Stage
from pyserver.service.live import LiveService

_STAGES = {
    Stage.LOOK_UP: models_pb2.DownloadEvent.STAGE_LOOK_UP,
    Stage.DOWNLOAD: models_pb2.DownloadEvent.STAGE_DOWNLOAD,
    Stage.INSTALL: models_pb2.DownloadEvent.STAGE_INSTALL,
}


class ModelInUse(StemlineError):
    reason = "MODEL_IN_USE"


class ModelService:
    """stems.v1.ModelService on the catalogue and the engine."""

    def __init__(self, core: Core, live: LiveService) -> None:
        self._core = core
        self._live = live
        self._downloads = Downloads(core.refuse_if_draining)

    async def ListModels(
        self, request: models_pb2.ListModelsRequest, context: grpc.aio.ServicerContext
    ) -> models_pb2.ListModelsResponse:
        entries = await asyncio.to_thread(catalogue.list_models)
        return models_pb2.ListModelsResponse(
            models=[self._describe(entry) for entry in entries], default_model=self._core.default_model
        )

    async def LoadModel(
        self, request: models_pb2.LoadModelRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[models_pb2.LoadEvent]:
        name = (await self._core.card(request.name)).name
        # The engine verifies the checksums itself, before it reads the weights.
        yield await self._event(models_pb2.LoadEvent.STAGE_VERIFY, name)
        yield await self._event(models_pb2.LoadEvent.STAGE_LOAD, name)
        await self._core.engine.load(name, measure=False)
        yield await self._event(models_pb2.LoadEvent.STAGE_WARM, name)
        await self._core.engine.load(name)
        yield await self._event(models_pb2.LoadEvent.STAGE_DONE, name)

    async def UnloadModel(
        self, request: models_pb2.UnloadModelRequest, context: grpc.aio.ServicerContext
    ) -> models_pb2.Model:
        card = await self._core.card(request.name)
        if card.name in self._live.models_in_use:
            raise ModelInUse(f"a live session is using {card.name}; close it first", name=card.name)
        await self._core.engine.unload(card.name)
        return await self._model(card.name)

    async def DownloadModel(
        self, request: models_pb2.DownloadModelRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[models_pb2.DownloadEvent]:
        if not await asyncio.to_thread(pull.is_installed, request.name):
            async with aclosing(self._downloads.watch(request.name)) as watched:
                async for at in watched:
                    yield models_pb2.DownloadEvent(
                        stage=_STAGES[at.stage], done_bytes=at.done_bytes, total_bytes=at.total_bytes
                    )
        yield models_pb2.DownloadEvent(stage=models_pb2.DownloadEvent.STAGE_DONE, model=await self._model(request.name))

    async def _event(self, stage: int, name: str) -> models_pb2.LoadEvent:
        return models_pb2.LoadEvent(stage=stage, model=await self._model(name))

    async def _model(self, name: str) -> models_pb2.Model:
        entries = await asyncio.to_thread(catalogue.list_models)
        return self._describe(next(entry for entry in entries if entry.name == name))

    def _describe(self, entry: CatalogueEntry) -> models_pb2.Model:
        kinds = models_pb2.Model
        if entry.installed is None:
            state = kinds.STATE_BROKEN if entry.problem else kinds.STATE_NOT_DOWNLOADED
            return kinds(name=entry.name, title=entry.title, state=state, problem=entry.problem)
        card = entry.installed.card
        loaded = self._core.engine.loaded(card.name)
        return kinds(
            name=card.name,
            title=card.title,
            weights_sha256=card.weights_sha256,
            licence=card.licence,
            stems=card.stems,
            native=audio_pb2.AudioSpec(
                sample_rate_hz=card.sample_rate_hz, channels=card.channels, format=audio_pb2.SAMPLE_FORMAT_F32_LE
            ),
            state=kinds.STATE_READY if loaded else kinds.STATE_AVAILABLE,
            file_bytes=entry.installed.file_bytes,
            default_refiner_steps=wire.default_steps(card),
            measured_realtime_factor=loaded.realtime_factor if loaded else 0.0,
            abilities=card.abilities,
        )
