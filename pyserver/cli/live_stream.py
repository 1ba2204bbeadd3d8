"""A live session from the client's side: blocks in, the mix of the chosen stems out, one constant latency later.

Axes: N samples, C channels. What is played at position p is what the server made of position p, never anything else:
blocks are placed by position, and where stems are missing there is silence, which is counted.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import numpy as np
from google.protobuf import duration_pb2
from stems.v1 import audio_pb2, live_pb2

from pyserver.audio.files import Block
from pyserver.service.channel import Connection

_RING_S = 4.0  # beyond the latency
_BACKLOG_S = 2.0  # what may wait to be sent before the session jumps to the present


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveSettings:
    """`stems` empty: all. `max_latency_s` None: the smallest that the server can hold."""

    model: str
    sample_rate_hz: int
    channels: int
    block_samples: int
    stems: Sequence[str]
    steps: int | None
    seed: int
    max_latency_s: float | None


class Timeline:
    """A ring of samples by position, of which the player takes each once. Safe from two threads."""

    def __init__(self, size: int, channels: int) -> None:
        self._audio_NC = np.zeros((size, channels), np.float32)
        self._filled_N = np.zeros(size, bool)
        self._taken_to = 0
        self._lock = threading.Lock()

    def put(self, start: int, audio_NC: Block) -> int:
        """Place audio; returns how many samples came too late to be played."""
        with self._lock:
            late = min(max(0, self._taken_to - start), len(audio_NC))
            audio_NC = audio_NC[late : late + len(self._filled_N)]
            where = (start + late + np.arange(len(audio_NC))) % len(self._filled_N)
            self._audio_NC[where] = audio_NC
            self._filled_N[where] = True
        return late

    def take(self, start: int, count: int) -> tuple[Block, int]:
        """What is at [start, start + count), silence where nothing is, and how many samples from 0 on were missing."""
        with self._lock:
            where = (start + np.arange(count)) % len(self._filled_N)
            filled = self._filled_N[where]
            out_NC = np.where(filled[:, None], self._audio_NC[where], np.float32(0))
            self._filled_N[where] = False
            self._taken_to = start + count
        wanted = np.arange(start, start + count) >= 0
        return out_NC, int((wanted & ~filled).sum())


class LiveClient:
    """One session. `run` talks to the server; `exchange` is called by whatever keeps time, from any thread."""

    def __init__(self, connection: Connection, settings: LiveSettings) -> None:
        self._connection, self._settings = connection, settings
        self._loop = asyncio.get_running_loop()
        self._outgoing: asyncio.Queue[tuple[int, Block] | None] = asyncio.Queue()
        self._consumed = asyncio.Event()
        self._consumed_to = 0
        self._epoch = 0  # flushes sent
        self._position = 0
        self._chosen: list[bool] = []
        self._timeline: Timeline | None = None
        self.ready: asyncio.Future[live_pb2.LiveReady] = self._loop.create_future()
        self.notices: list[str] = []
        self.missing_samples = 0

    @property
    def latency_samples(self) -> int:
        return int(self.ready.result().latency_samples)

    def exchange(self, block_NC: Block) -> Block:
        """Give the samples that come in now; get those to be played now, which came in `latency_samples` ago."""
        assert self._timeline is not None
        item = (self._position, block_NC)
        self._loop.call_soon_threadsafe(self._outgoing.put_nowait, item)
        out_NC, missing = self._timeline.take(self._position - self.latency_samples, len(block_NC))
        self._position += len(block_NC)
        self.missing_samples += missing
        return out_NC

    def finish(self) -> None:
        """No more input; `run` returns when the stems of what was given have come."""
        self._loop.call_soon_threadsafe(self._outgoing.put_nowait, None)

    async def run(self) -> None:
        """The session, until `finish` or an error of the server."""
        try:
            async for response in self._connection.live.Separate(self._requests()):
                kind = response.WhichOneof("kind")
                if kind == "ready":
                    self._begin(response.ready)
                elif kind == "audio":
                    self._place(response.audio)
                elif kind == "notice":
                    self._heard(response.notice)
        except BaseException as error:
            if not self.ready.done() and isinstance(error, Exception):
                self.ready.set_exception(error)
            raise

    def _begin(self, ready: live_pb2.LiveReady) -> None:
        settings = self._settings
        self._chosen = [not settings.stems or stem in settings.stems for stem in ready.stems]
        size = ready.latency_samples + round(_RING_S * settings.sample_rate_hz) + ready.hop_samples
        self._timeline = Timeline(size, settings.channels)
        self.ready.set_result(ready)

    def _place(self, audio: live_pb2.LiveAudio) -> None:
        assert self._timeline is not None
        mix_CN: Block | None = None
        for stem in audio.stems:
            if self._chosen[stem.stem_index]:
                stem_CN = np.frombuffer(stem.block.samples, "<f4").reshape(self._settings.channels, -1)
                mix_CN = stem_CN if mix_CN is None else mix_CN + stem_CN
        if mix_CN is not None:
            self._timeline.put(audio.stems[0].block.start_sample, mix_CN.T)
        self._read_to(audio.consumed_samples, audio.epoch)

    def _heard(self, notice: live_pb2.LiveNotice) -> None:
        self.notices.append(notice.message)
        if notice.kind == live_pb2.LiveNotice.KIND_DROPPED:  # it cannot have dropped what it had not read
            self._read_to(notice.start_sample + notice.num_samples, notice.epoch)

    def _read_to(self, position: int, epoch: int) -> None:
        """How far the server has read, if it is not of before the last jump."""
        if epoch == self._epoch:
            self._consumed_to = max(self._consumed_to, position)
            self._consumed.set()

    async def _requests(self) -> AsyncIterator[live_pb2.LiveRequest]:
        yield live_pb2.LiveRequest(open=self._open())
        ready = await self.ready
        window = ready.max_in_flight_blocks * self._settings.block_samples
        backlog = max(1, round(_BACKLOG_S * self._settings.sample_rate_hz / self._settings.block_samples))
        while (item := await self._outgoing.get()) is not None:
            if self._outgoing.qsize() > backlog:  # the server cannot follow: on from the present, without the past
                self.notices.append("the server is too slow; some input was skipped")
                item = self._newest(item)
                yield live_pb2.LiveRequest(flush=live_pb2.LiveFlush())
                self._epoch += 1
                self._consumed_to = item[0]
            start, block_NC = item
            while start - self._consumed_to > window:
                self._consumed.clear()
                await self._consumed.wait()
            yield live_pb2.LiveRequest(audio=_block(start, block_NC))

    def _newest(self, item: tuple[int, Block]) -> tuple[int, Block]:
        while not self._outgoing.empty():
            following = self._outgoing.get_nowait()
            if following is None:
                self._outgoing.put_nowait(None)
                break
            item = following
        return item

    def _open(self) -> live_pb2.LiveOpen:
        settings = self._settings
        quality = audio_pb2.Quality(noise_seed=settings.seed)
        if settings.steps is not None:
            quality.refiner_steps = settings.steps
        opened = live_pb2.LiveOpen(
            model=settings.model,
            audio=audio_pb2.AudioSpec(
                sample_rate_hz=settings.sample_rate_hz,
                channels=settings.channels,
                format=audio_pb2.SAMPLE_FORMAT_F32_LE,
            ),
            block_samples=settings.block_samples,
            quality=quality,
        )
        if settings.max_latency_s is not None:
            limit = duration_pb2.Duration()
            limit.FromNanoseconds(round(settings.max_latency_s * 1e9))
            opened.max_latency.CopyFrom(limit)
        return opened


def _block(start: int, block_NC: Block) -> audio_pb2.Block:
    samples = np.ascontiguousarray(block_NC.T, dtype="<f4").tobytes()
    return audio_pb2.Block(start_sample=start, num_samples=len(block_NC), samples=samples)
