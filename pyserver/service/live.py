"""The Live service: blocks in, stems out at a constant latency."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import grpc
from stems.v1 import audio_pb2, live_pb2

from pyserver.models.card import ModelCard
from pyserver.separation.errors import LatencyNotPossible
from pyserver.separation.live import LiveDropped, LiveSession, LiveStems
from pyserver.separation.live_stream import LiveStream
from pyserver.service import wire
from pyserver.service.admission import Admission
from pyserver.service.core import Core, ShuttingDown
from pyserver.service.errors import InvalidRequest
from pyserver.service.pacing import Pacing, in_flight_blocks

MAX_BLOCK_SAMPLES = 1 << 18
DEFAULT_BLOCK_SAMPLES = 512
DRAIN_GRACE_S = 2.0


class LiveService:
    """stems.v1.LiveService: one LiveStream for each call."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._admission = Admission(core)
        self._calls: set[_Call] = set()

    @property
    def open_sessions(self) -> int:
        return len(self._calls)

    @property
    def models_in_use(self) -> set[str]:
        return {call.card.name for call in self._calls}

    async def Separate(self, requests: AsyncIterator[live_pb2.LiveRequest], context: grpc.aio.ServicerContext) -> None:
        first = await anext(aiter(requests), None)
        if first is None:
            return
        if first.WhichOneof("kind") != "open":
            raise InvalidRequest("a live session begins with `open`")
        request = first.open
        wire.check_audio(request.audio)
        if request.block_samples > MAX_BLOCK_SAMPLES:
            raise InvalidRequest(f"open.block_samples is {request.block_samples}; at most {MAX_BLOCK_SAMPLES}")
        card = await self._core.card(request.model, "separate")
        session_id = secrets.token_hex(8)
        async with self._admission.admitted(session_id, card, request) as (plan, settings):
            session = LiveSession(plan, card.name, settings)
            stream = LiveStream(session, self._core.scheduler, session_id)
            call = _Call(self._core, card, session, stream, context)
            self._calls.add(call)
            try:
                await call.run(session_id, request, requests)
            finally:
                self._calls.discard(call)
                stream.close()

    async def notify(self, kind: int, message: str) -> None:
        """Tells every open session; one whose client has gone does not keep the others from hearing."""
        notice = live_pb2.LiveResponse(notice=live_pb2.LiveNotice(kind=kind, message=message))
        await asyncio.gather(*(call.write(notice) for call in self._calls), return_exceptions=True)


class _Call:
    """One open session: reads blocks, as fast as their stems go out and no faster, and writes stems."""

    def __init__(
        self,
        core: Core,
        card: ModelCard,
        session: LiveSession,
        stream: LiveStream,
        context: grpc.aio.ServicerContext,
    ) -> None:
        self.card = card
        self._core = core
        self._plan = session.plan
        self._session = session
        self._stream = stream
        self._context = context
        # A latency in real time was promised for so many; who waits may have more.
        self._most_steps = session.settings.refiner_steps if session.plan.deadlines else wire.MAX_REFINER_STEPS
        self._pacing = Pacing(session.plan.latency_samples)
        self._writing = asyncio.Lock()

    async def run(
        self, session_id: str, opened: live_pb2.LiveOpen, requests: AsyncIterator[live_pb2.LiveRequest]
    ) -> None:
        device, loaded = self._core.engine.device, self._core.engine.loaded(self.card.name)
        backend = (loaded and loaded.backend) or device.backend
        blocks = in_flight_blocks(
            self._plan, opened.block_samples or DEFAULT_BLOCK_SAMPLES, opened.max_in_flight_blocks
        )
        ready = live_pb2.LiveReady(
            session_id=session_id,
            model=self.card.name,
            weights_sha256=self.card.weights_sha256,
            stems=self.card.stems,
            latency_samples=self._plan.latency_samples,
            hop_samples=self._plan.hop_samples,
            max_in_flight_blocks=blocks,
            quality=wire.quality(self._session.settings),
            device=f"{device.name} ({backend})",
            bounce_windows=self._plan.bounce_windows,
        )
        await self.write(live_pb2.LiveResponse(ready=ready))
        await _until_sent(self._send(), self._receive(requests), self._end_when_drained())

    async def write(self, response: live_pb2.LiveResponse) -> None:
        async with self._writing:  # gRPC takes one message of a call at a time
            await self._context.write(response)

    async def _receive(self, requests: AsyncIterator[live_pb2.LiveRequest]) -> None:
        async for request in requests:
            kind = request.WhichOneof("kind")
            if kind == "audio":
                await self._feed(request.audio)
            elif kind == "flush":
                self._stream.flush()
                await self._stream.room()
            elif kind == "update":
                self._update(request.update.quality)
            else:
                raise InvalidRequest("a live session has one `open`, then `audio`, `flush` or `update`")
        self._stream.finish()

    async def _feed(self, block: audio_pb2.Block) -> None:
        if block.num_samples > MAX_BLOCK_SAMPLES:
            raise InvalidRequest(f"a block has at most {MAX_BLOCK_SAMPLES} samples, not {block.num_samples}")
        audio_CN = wire.block_audio(block, self._plan.channels)
        if block.start_sample != self._session.consumed_samples:
            await self._stream.room()  # or stems would pile up for a client that jumps and does not read
        # In pieces no longer than a hop, so that a large block makes no crowd of windows that are all due at once.
        for begin in range(0, block.num_samples, self._plan.hop_samples):
            piece_CN = audio_CN[:, begin : begin + self._plan.hop_samples]
            await self._pacing.room_for(piece_CN.shape[1])
            self._stream.feed(block.start_sample + begin, piece_CN)

    def _update(self, quality: audio_pb2.Quality) -> None:
        settings = wire.settings(quality, self.card)
        if settings.refiner_steps > self._most_steps:
            raise LatencyNotPossible(
                f"this session's latency was promised for {self._most_steps} refiner steps; "
                f"open a new one for {settings.refiner_steps}",
                refiner_steps=settings.refiner_steps,
            )
        self._session.settings = settings

    async def _send(self) -> None:
        async for item in self._stream:
            if isinstance(item, LiveStems):
                self._pacing.went_out(item.stems_SCN.shape[2])
                await self.write(live_pb2.LiveResponse(audio=self._audio(item)))
            else:
                self._pacing.went_out(item.num_samples)
                await self.write(live_pb2.LiveResponse(notice=_dropped(item)))

    def _audio(self, stems: LiveStems) -> live_pb2.LiveAudio:
        return live_pb2.LiveAudio(
            stems=wire.stem_blocks(stems.stems_SCN, stems.start_sample),
            compute=wire.duration(stems.compute_s),
            epoch=stems.epoch,
            consumed_samples=stems.consumed_samples,
        )

    async def _end_when_drained(self) -> None:
        await self._core.draining.wait()
        await asyncio.sleep(DRAIN_GRACE_S)
        raise ShuttingDown


def _dropped(item: LiveDropped) -> live_pb2.LiveNotice:
    return live_pb2.LiveNotice(
        kind=live_pb2.LiveNotice.KIND_DROPPED,
        start_sample=item.start_sample,
        num_samples=item.num_samples,
        message=item.message,
        epoch=item.epoch,
    )


async def _until_sent(sender: Coroutine[Any, Any, None], *others: Coroutine[Any, Any, None]) -> None:
    """Runs all until `sender` has ended or one has failed, whose error is raised; the rest is cancelled."""
    sending = asyncio.create_task(sender)
    tasks = {sending, *(asyncio.create_task(other) for other in others)}
    waiting = tasks
    try:
        while not sending.done():
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
