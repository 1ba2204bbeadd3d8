"""Offline sessions over real gRPC: the stems of a bounce, however the stream is cut, however slowly it is read."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
import psutil
import pytest
from google.protobuf import duration_pb2
from service_support import RunningServer, ended, song, stems_of, submit
from stems.v1 import audio_pb2, bounce_pb2, live_pb2

from pyserver.service.channel import Connection, connect

BLOCK = 512
BLOCKS = (512, 1, 511, 64, 300)
Audio = npt.NDArray[np.float32]

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
async def client(server: RunningServer) -> AsyncIterator[Connection]:
    async with await connect(server.target) as connection:
        yield connection


def quality(steps: int) -> audio_pb2.Quality:
    return audio_pb2.Quality(refiner_steps=steps, noise_seed=7)


async def bounced(client: Connection, song_NC: Audio, rate: int = 44100, steps: int = 1) -> dict[str, bytes]:
    audio = audio_pb2.AudioSpec(sample_rate_hz=rate, channels=song_NC.shape[1])
    job = await ended(client, (await submit(client, song_NC, audio=audio, quality=quality(steps))).job_id)
    assert job.state == bounce_pb2.JOB_STATE_SUCCEEDED
    return await stems_of(client, job)


@dataclass
class Offline:
    """A client that waits, as a plugin does while its host renders."""

    call: Any
    ready: live_pb2.LiveReady
    channels: int
    runs: list[tuple[int, int, Audio]] = field(default_factory=list)  # epoch, start, stems (S, C, N)
    notices: list[live_pb2.LiveNotice] = field(default_factory=list)

    @classmethod
    async def open(cls, client: Connection, channels: int = 2, rate: int = 44100, **changes: Any) -> "Offline":
        audio = audio_pb2.AudioSpec(sample_rate_hz=rate, channels=channels)
        fields = {"audio": audio, "block_samples": BLOCK, "pace": live_pb2.PACE_OFFLINE, "quality": quality(1)}
        call = client.live.Separate()
        await call.write(live_pb2.LiveRequest(open=live_pb2.LiveOpen(**(fields | changes))))
        return cls(call, (await call.read()).ready, channels)

    async def send(self, audio_NC: Audio, start: int) -> None:
        samples = np.ascontiguousarray(audio_NC.T, "<f4").tobytes()
        block = audio_pb2.Block(start_sample=start, num_samples=len(audio_NC), samples=samples)
        await self.call.write(live_pb2.LiveRequest(audio=block))

    async def flush(self) -> None:
        await self.call.write(live_pb2.LiveRequest(flush=live_pb2.LiveFlush()))

    async def read(self) -> bool:
        """One answer; false at the end."""
        async with asyncio.timeout(60):
            response = await self.call.read()
        if response is grpc.aio.EOF:
            return False
        if response.WhichOneof("kind") == "notice":
            self.notices.append(response.notice)
            return True
        stems = [np.frombuffer(s.block.samples, "<f4").reshape(self.channels, -1) for s in response.audio.stems]
        self.runs.append((response.audio.epoch, response.audio.stems[0].block.start_sample, np.stack(stems)))
        return True

    def have_to(self, epoch: int, start: int) -> int:
        """Up to where the stems of an epoch that began at `start` have come."""
        return max([begin + stems.shape[2] for number, begin, stems in self.runs if number == epoch], default=start)

    async def render(self, song_NC: Audio, *, start: int = 0, sizes: tuple[int, ...] = BLOCKS, epoch: int = 0) -> None:
        """Sends a block, then waits until every stem that is due by then has come: with a latency that were one
        sample too small this would wait for ever.
        """
        sent, turn = 0, 0
        while sent < len(song_NC):
            block_NC = song_NC[sent : sent + sizes[turn % len(sizes)]]
            await self.send(block_NC, start + sent)
            sent, turn = sent + len(block_NC), turn + 1
            while self.have_to(epoch, start) <= start + sent - self.ready.latency_samples:
                assert await self.read()

    async def finish(self) -> None:
        await self.call.done_writing()
        while await self.read():
            pass

    def stems(self, start: int, epoch: int = 0) -> dict[str, bytes]:
        """Interleaved, as a bounce gives them; asserts that they follow each other from `start` on."""
        parts, expected = [], start
        for number, begin, stems_SCN in self.runs:
            if number == epoch:
                assert begin == expected
                expected += stems_SCN.shape[2]
                parts.append(stems_SCN)
        stems_SCN = np.concatenate(parts, axis=2)
        return {name: stem.T.tobytes() for name, stem in zip(self.ready.stems, stems_SCN, strict=True)}


def assert_same(offline: dict[str, bytes], bounced: dict[str, bytes]) -> None:
    assert set(offline) == set(bounced) - {"residual"}
    for name, samples in offline.items():
        assert samples == bounced[name], name


@pytest.mark.parametrize("steps", [0, 1])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [44100, 48000, 96000])
async def test_stems_are_those_of_a_bounce_to_the_last_bit(
    client: Connection, rate: int, channels: int, steps: int
) -> None:
    song_NC = song(2.1, channels)
    session = await Offline.open(client, channels, rate, quality=quality(steps))
    assert session.ready.bounce_windows
    await session.render(song_NC, start=1000)
    await session.finish()
    assert session.notices == []
    assert_same(session.stems(1000), await bounced(client, song_NC, rate, steps))


async def test_stems_do_not_depend_on_the_size_of_the_blocks(client: Connection) -> None:
    song_NC = song(1.5)
    heard = []
    for sizes in ((17, 30), (len(song_NC),)):
        session = await Offline.open(client, block_samples=max(sizes))
        await session.render(song_NC, sizes=sizes)
        await session.finish()
        heard.append(session.stems(0))
    assert heard[0] == heard[1]


async def test_a_flush_ends_one_file_and_begins_another(client: Connection) -> None:
    songs = [song(1.2), song(1.5, seed=4), song(0.001, seed=5)]
    session = await Offline.open(client)
    for epoch, song_NC in enumerate(songs):
        await session.render(song_NC, start=77 * epoch, epoch=epoch)
        await session.flush()
    await session.finish()
    for epoch, song_NC in enumerate(songs):
        assert_same(session.stems(77 * epoch, epoch), await bounced(client, song_NC))


async def test_however_often_the_client_jumps_nothing_is_dropped(client: Connection) -> None:
    song_NC = song(0.01)
    session = await Offline.open(client)
    for number in range(30):
        await session.send(song_NC, number * 1000)
        if number % 2:
            await session.flush()
    await session.finish()
    assert session.notices == []
    assert [(start, epoch) for epoch, start, _ in session.runs] == [(n * 1000, n // 2) for n in range(30)]
    alone = await bounced(client, song_NC)
    for _, start, stems_SCN in session.runs:
        one = Offline(None, session.ready, 2, runs=[(0, start, stems_SCN)])
        assert_same(one.stems(start), alone)


async def test_nothing_is_dropped_or_different_while_bounces_run(client: Connection) -> None:
    song_NC = song(2)
    alone = await bounced(client, song_NC)
    jobs = [await submit(client, song(60, seed=seed)) for seed in (5, 6)]
    sessions = [await Offline.open(client) for _ in range(3)]
    for session in sessions:
        assert session.ready.bounce_windows
    await asyncio.gather(*(session.render(song_NC) for session in sessions))
    await asyncio.gather(*(session.finish() for session in sessions))
    for job in jobs:
        await client.bounce.CancelJob(bounce_pb2.CancelJobRequest(job_id=job.job_id))
    for session in sessions:
        assert session.notices == []
        assert_same(session.stems(0), alone)


async def test_a_real_time_session_beside_it_keeps_its_latency_and_its_place(client: Connection) -> None:
    opened = live_pb2.LiveOpen(audio=audio_pb2.AudioSpec(sample_rate_hz=44100, channels=2), block_samples=BLOCK)
    latencies = []
    for offline in (0, 20):
        sessions = [await Offline.open(client) for _ in range(offline)]
        call = client.live.Separate()
        await call.write(live_pb2.LiveRequest(open=opened))
        ready = (await call.read()).ready
        assert not ready.bounce_windows
        latencies.append(ready.latency_samples)
        call.cancel()
        for session in sessions:
            session.call.cancel()
    assert latencies[0] == latencies[1]


async def test_within_a_smaller_latency_the_session_still_waits_and_says_that_it_is_no_bounce(
    client: Connection,
) -> None:
    song_NC = song(2)
    limit = duration_pb2.Duration(nanos=250_000_000)
    session = await Offline.open(client, max_latency=limit)
    assert not session.ready.bounce_windows
    assert session.ready.latency_samples <= 0.25 * 44100
    await session.render(song_NC)
    await session.finish()
    assert session.notices == []
    assert {len(samples) for samples in session.stems(0).values()} == {song_NC.nbytes}


async def test_steps_may_be_more_than_at_the_start_because_nothing_is_late(client: Connection) -> None:
    session = await Offline.open(client, quality=quality(0))
    await session.call.write(live_pb2.LiveRequest(update=live_pb2.LiveUpdate(quality=quality(1))))
    song_NC = song(1)
    await session.render(song_NC)
    await session.finish()
    assert_same(session.stems(0), await bounced(client, song_NC))


async def test_a_reader_that_sleeps_makes_the_server_wait_not_buffer(server: RunningServer, client: Connection) -> None:
    song_NC = song(8)
    session = await Offline.open(client)
    window = session.ready.max_in_flight_blocks * BLOCK
    assert session.ready.latency_samples <= window <= 2 * session.ready.latency_samples + 2 * BLOCK

    async def send() -> None:
        for begin in range(0, len(song_NC), BLOCK):
            await session.send(song_NC[begin : begin + BLOCK], begin)
        await session.call.done_writing()

    process = psutil.Process(server.process.pid)
    before = process.memory_info().rss
    sending = asyncio.create_task(send())
    await asyncio.sleep(4)
    assert not sending.done(), "the server took all of it without giving anything"
    assert process.memory_info().rss - before < 24 << 20
    while await session.read():
        pass
    await sending
    assert_same(session.stems(0), await bounced(client, song_NC))


async def test_a_client_that_jumps_and_does_not_read_is_made_to_wait_too(client: Connection) -> None:
    song_NC = song(0.75)
    session = await Offline.open(client)

    async def jump() -> None:
        for number in range(20):
            await session.send(song_NC, number << 16)
            await asyncio.sleep(0.2)  # time for its stems to be finished
            await session.flush()

    jumping = asyncio.create_task(jump())
    await asyncio.sleep(6)
    assert not jumping.done(), "stems that nobody reads pile up"
    session.call.cancel()
    jumping.cancel()
    await asyncio.gather(jumping, return_exceptions=True)
