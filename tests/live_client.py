"""A client of the Live service for tests: what it sends, what it hears, and what it may expect of that."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
import pytest
from google.protobuf import duration_pb2
from real_time import Diary, Watch, paced
from service_support import RATE
from stems.v1 import audio_pb2, live_pb2

from pyserver.service.channel import Connection, error_info

BLOCK = 512
STEMS = 5
FADE, LOOKAHEAD = 882, 1024  # of a live window with the tiny model, in samples
CONTEXT = FADE + LOOKAHEAD
Audio = npt.NDArray[np.float32]


def opening(**changes: Any) -> live_pb2.LiveRequest:
    fields: dict[str, Any] = {
        "audio": audio_pb2.AudioSpec(sample_rate_hz=RATE, channels=2),
        "block_samples": BLOCK,
        "quality": audio_pb2.Quality(noise_seed=3),
    }
    return live_pb2.LiveRequest(open=live_pb2.LiveOpen(**(fields | changes)))


def blocks(song_NC: Audio, start: int = 0, size: int = BLOCK) -> Iterator[live_pb2.LiveRequest]:
    for begin in range(0, len(song_NC), size):
        piece_NC = song_NC[begin : begin + size]
        block = audio_pb2.Block(
            start_sample=start + begin, num_samples=len(piece_NC), samples=piece_NC.T.astype("<f4").tobytes()
        )
        yield live_pb2.LiveRequest(audio=block)


@dataclass
class Heard:
    """What a session gave back: stems by epoch and position, and what it said would not come."""

    runs: list[tuple[int, int, Audio]] = field(default_factory=list)  # epoch, start, stems (S, C, N)
    notices: list[live_pb2.LiveNotice] = field(default_factory=list)
    arrivals: list[tuple[int, int]] = field(default_factory=list)  # start of a run, samples sent when it came
    consumed: dict[tuple[int, int], int] = field(default_factory=dict)  # by epoch and start of a run
    sent: int = 0
    diary: Diary = field(default_factory=lambda: Diary(latency=0, allowance=0, context=0, rate=RATE))

    def sending(self, samples: int) -> None:
        self.sent += samples
        self.diary.sent(self.sent)

    def take(self, response: live_pb2.LiveResponse) -> None:
        if response.WhichOneof("kind") == "notice":
            notice = response.notice
            self.notices.append(notice)
            if notice.kind == live_pb2.LiveNotice.KIND_DROPPED:
                self.diary.came(notice.start_sample, notice.start_sample + notice.num_samples, dropped=True)
            return
        stems = []
        for index, stem in enumerate(response.audio.stems):
            assert stem.stem_index == index
            assert stem.block.start_sample == response.audio.stems[0].block.start_sample
            stems.append(np.frombuffer(stem.block.samples, "<f4").reshape(2, stem.block.num_samples))
        start = response.audio.stems[0].block.start_sample
        self.runs.append((response.audio.epoch, start, np.stack(stems)))
        self.consumed[response.audio.epoch, start] = response.audio.consumed_samples
        self.arrivals.append((start, self.sent))
        compute_s = response.audio.compute.ToNanoseconds() / 1e9
        self.diary.came(start, start + self.runs[-1][2].shape[2], compute_s)

    def stems(self, epoch: int = 0) -> tuple[int, Audio]:
        """First position and stems (S, C, N) of an epoch, after making sure that they are without gap or overlap."""
        runs = [(start, stems_SCN) for number, start, stems_SCN in self.runs if number == epoch]
        expected = runs[0][0]
        for start, stems_SCN in runs:
            assert start == expected
            expected = start + stems_SCN.shape[2]
        return runs[0][0], np.concatenate([stems_SCN for _, stems_SCN in runs], axis=2)


async def begin(client: Connection, **changes: Any) -> tuple[Any, live_pb2.LiveReady]:
    """An open session. A machine so busy that it can promise no latency at all cannot be tested for keeping one."""
    call = client.live.Separate()
    try:
        await call.write(opening(**changes))
        return call, (await call.read()).ready
    except grpc.aio.AioRpcError as refused:
        info = error_info(refused)
        if info and info.reason == "LATENCY_NOT_POSSIBLE" and "possible_latency_s" not in info.metadata:
            pytest.skip(f"nothing was promised: {refused.details()}")
        raise


async def listen(call: Any, heard: Heard) -> Heard:
    while (response := await call.read()) is not grpc.aio.EOF:
        heard.take(response)
    return heard


async def send(
    call: Any, heard: Heard, messages: Iterator[live_pb2.LiveRequest], *, in_real_time: bool = False
) -> None:
    async for message in paced(messages, BLOCK / RATE if in_real_time else 0.0):
        heard.sending(message.audio.num_samples)
        await call.write(message)


async def play(client: Connection, song_NC: Audio) -> Diary:
    """In real time. What comes must be in its place."""
    call, ready = await begin(client, max_latency=duration_pb2.Duration(seconds=3))
    heard = Heard(
        diary=Diary(
            latency=ready.latency_samples,
            allowance=ready.latency_samples - ready.hop_samples - CONTEXT - (BLOCK - 1),
            context=CONTEXT,
            rate=RATE,
        )
    )
    listening = asyncio.create_task(listen(call, heard))
    await send(call, heard, blocks(song_NC), in_real_time=True)
    await call.done_writing()
    await listening
    for _, start, stems_SCN in heard.runs:
        assert_sums_to(song_NC[start : start + stems_SCN.shape[2]], stems_SCN)
    return heard.diary


async def assert_on_time(client: Connection, song_NC: Audio) -> None:
    """Nothing is late for which the server is to blame."""
    tries = []
    for _ in range(3):
        with Watch() as watch:
            diary = await play(client, song_NC)
        tries.append(diary.to_blame(watch.stalled_s))
        if not tries[-1]:
            return
    pytest.fail(f"late, by try: {tries}")


async def separated(client: Connection, song_NC: Audio, size: int = BLOCK, start: int = 0) -> Heard:
    """Everything as fast as it goes."""
    call, _ = await begin(client)
    heard = Heard()
    listening = asyncio.create_task(listen(call, heard))
    await send(call, heard, blocks(song_NC, start, size))
    await call.done_writing()
    return await listening


async def refusal(call: Any) -> tuple[str, dict[str, str]]:
    """Reason and metadata with which a session ends."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await listen(call, Heard())
    info = error_info(caught.value)
    assert info is not None, caught.value
    return info.reason, dict(info.metadata)


def assert_in_place(heard: Heard, song_NC: Audio, start: int = 0, epoch: int = 0) -> None:
    """The tiny model's stems sum to the mixture: so what came back for position p must be what was sent for p."""
    first, stems_SCN = heard.stems(epoch)
    assert first == start
    assert_sums_to(song_NC, stems_SCN)


def assert_sums_to(song_NC: Audio, stems_SCN: Audio) -> None:
    sum_NC = stems_SCN.sum(axis=0, dtype=np.float64).T
    assert sum_NC.shape == song_NC.shape
    assert np.abs(sum_NC - song_NC).max() < 2e-6
