"""Live sessions over real gRPC: exact positions, constant latency, nothing lost without a word."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psutil
import pytest
from google.protobuf import duration_pb2
from live_client import (
    BLOCK,
    FADE,
    LOOKAHEAD,
    Heard,
    assert_in_place,
    assert_on_time,
    begin,
    blocks,
    listen,
    opening,
    refusal,
    send,
    separated,
)
from real_time import paced
from service_support import RATE, RunningServer, running_server, song, submit
from stems.v1 import audio_pb2, bounce_pb2, live_pb2

from pyserver.service.channel import Connection, connect, error_info


@pytest.fixture
async def client(server: RunningServer) -> AsyncIterator[Connection]:
    async with await connect(server.target) as connection:
        yield connection


async def test_ready_says_what_will_be_done(client: Connection) -> None:
    call, ready = await begin(client)
    assert list(ready.stems) == ["bass", "drums", "guitar", "piano", "other"]
    assert ready.latency_samples > ready.hop_samples > 0
    assert ready.quality.refiner_steps == 1
    assert ready.model == "stemline-small"
    assert "cpu" in ready.device
    call.cancel()


async def test_stems_come_at_the_promised_latency_in_real_time(client: Connection) -> None:
    await assert_on_time(client, song(4.0))


async def test_a_fast_client_is_slowed_but_loses_nothing(client: Connection) -> None:
    song_NC = song(20.0)
    heard = await separated(client, song_NC)
    assert heard.notices == []
    assert_in_place(heard, song_NC)
    # What was ahead at the end was in transit, not lying in the server.
    ahead = [sent - start for start, sent in heard.arrivals]
    assert max(ahead) < 6 * RATE


async def test_stems_do_not_depend_on_the_size_of_the_blocks(client: Connection) -> None:
    song_NC = song(2.0)
    one = (await separated(client, song_NC)).stems()[1]
    other = (await separated(client, song_NC, size=9999)).stems()[1]
    assert np.array_equal(one, other)


async def test_a_stream_may_begin_before_zero(client: Connection) -> None:
    song_NC = song(1.0)
    assert_in_place(await separated(client, song_NC, start=-5000), song_NC, start=-5000)


@pytest.mark.parametrize("flush", [True, False])
async def test_after_a_jump_the_stream_goes_on_anywhere_and_what_was_before_it_still_comes(
    client: Connection, flush: bool
) -> None:
    songs = {0: song(1.01), 7_000_000: song(1.5, seed=2), -90_000: song(0.7, seed=3)}
    call, _ = await begin(client)
    heard = Heard()
    listening = asyncio.create_task(listen(call, heard))
    for start, song_NC in songs.items():
        await send(call, heard, blocks(song_NC, start))
        if flush:
            await call.write(live_pb2.LiveRequest(flush=live_pb2.LiveFlush()))
    await call.done_writing()
    await listening
    assert heard.notices == []
    assert [epoch for epoch, _, _ in heard.runs] == sorted(epoch for epoch, _, _ in heard.runs)
    for epoch, (start, song_NC) in enumerate(songs.items()):
        own = [run for run in heard.runs if start <= run[1] < start + len(song_NC)]
        assert {number for number, _, _ in own} == {epoch if flush else 0}
        assert heard.consumed[own[-1][:2]] == start + len(song_NC)
        one = Heard(runs=[(0, *run[1:]) for run in own])
        assert_in_place(one, song_NC, start)
        alone = (await separated(client, song_NC, start=start)).stems()[1]
        assert np.array_equal(one.stems()[1], alone), "one side of a jump is audible on the other"


async def test_while_the_transport_loops_every_stem_comes(client: Connection) -> None:
    loop_NC, turns = song(1.0), 5
    call, _ = await begin(client, max_latency=duration_pb2.Duration(seconds=3))
    heard = Heard()
    listening = asyncio.create_task(listen(call, heard))
    for _ in range(turns):
        await send(call, heard, blocks(loop_NC), in_real_time=True)
        await call.write(live_pb2.LiveRequest(flush=live_pb2.LiveFlush()))
    await call.done_writing()
    await listening
    dropped = {notice.epoch for notice in heard.notices}  # by a machine that was busy with others
    whole = set(range(turns)) - dropped
    assert whole
    for epoch in whole:
        assert_in_place(heard, loop_NC, epoch=epoch)


async def test_who_scrubs_hears_of_every_sample_in_order(client: Connection) -> None:
    scrubs = [song(0.002 + 0.01 * (number % 3), seed=number) for number in range(150)]
    call, _ = await begin(client)
    heard = Heard()
    listening = asyncio.create_task(listen(call, heard))
    for number, song_NC in enumerate(scrubs):
        await send(call, heard, blocks(song_NC, number * 1000))
        await call.write(live_pb2.LiveRequest(flush=live_pb2.LiveFlush()))
    await call.done_writing()
    await listening
    spans = [(epoch, start, stems_SCN.shape[2]) for epoch, start, stems_SCN in heard.runs]
    assert [epoch for epoch, _, _ in spans] == sorted(epoch for epoch, _, _ in spans)
    spans += [(notice.epoch, notice.start_sample, notice.num_samples) for notice in heard.notices]
    assert sorted(spans) == [(number, number * 1000, len(song_NC)) for number, song_NC in enumerate(scrubs)]


async def sent_until_it_waits(heard: Heard) -> int:
    """Samples sent when for a while no more could be: what is on the way has then filled all that may be filled."""
    sent = -1
    while sent != heard.sent:
        sent = heard.sent
        await asyncio.sleep(3)
    return sent


async def test_client_that_does_not_read_makes_the_server_wait_not_buffer(
    server: RunningServer, client: Connection
) -> None:
    song_NC = np.tile(song(10.0), (12, 1))
    call, _ = await begin(client)
    memory = psutil.Process(server.process.pid).memory_info
    before = memory().rss
    heard = Heard()
    sending = asyncio.create_task(send(call, heard, blocks(song_NC)))
    sent_before = await sent_until_it_waits(heard)
    assert sent_before < len(song_NC), "a client that reads nothing could send all it had"
    assert memory().rss - before < 24 * 2**20
    listening = asyncio.create_task(listen(call, heard))
    while heard.sent == sent_before:  # noqa: ASYNC110 - the server, another process, moves it
        await asyncio.sleep(0.1)
    call.cancel()
    for task in (sending, listening):
        task.cancel()
    await asyncio.gather(sending, listening, return_exceptions=True)


async def test_latency_too_small_is_refused_with_one_that_is_possible(client: Connection) -> None:
    call = client.live.Separate()
    await call.write(opening(max_latency=duration_pb2.Duration(nanos=1_000_000)))
    reason, metadata = await refusal(call)
    assert reason == "LATENCY_NOT_POSSIBLE"
    possible = duration_pb2.Duration()
    possible.FromNanoseconds(round(float(metadata["possible_latency_s"]) * 1e9) + 1000)
    call, ready = await begin(client, max_latency=possible)
    assert ready.latency_samples / RATE <= possible.ToNanoseconds() / 1e9
    call.cancel()


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (live_pb2.LiveRequest(audio=audio_pb2.Block(num_samples=4, samples=b"123")), "INVALID_REQUEST"),
        (opening(), "INVALID_REQUEST"),
        (next(blocks(np.full((64, 2), np.inf, np.float32))), "INPUT_NOT_FINITE"),
        (live_pb2.LiveRequest(update=live_pb2.LiveUpdate(quality={"refiner_steps": 9})), "LATENCY_NOT_POSSIBLE"),
    ],
)
async def test_nonsense_in_a_session_ends_it_with_its_reason(
    client: Connection, message: live_pb2.LiveRequest, reason: str
) -> None:
    call, _ = await begin(client)
    await call.write(message)
    assert (await refusal(call))[0] == reason


async def test_quality_can_change_on_the_way(client: Connection) -> None:
    song_NC = song(2.0)
    call, ready = await begin(client)
    heard = Heard()
    listening = asyncio.create_task(listen(call, heard))
    await send(call, heard, blocks(song_NC[:RATE]))
    await call.write(live_pb2.LiveRequest(update=live_pb2.LiveUpdate(quality={"refiner_steps": 0})))
    await send(call, heard, blocks(song_NC[RATE:], start=RATE))
    await call.done_writing()
    await listening
    refined = (await separated(client, song_NC)).stems()[1]
    changed = heard.stems()[1]
    windows_before = (RATE - LOOKAHEAD) // ready.hop_samples
    before = windows_before * ready.hop_samples - FADE
    assert before > 0
    assert np.array_equal(changed[..., :before], refined[..., :before])
    assert not np.array_equal(changed[..., -RATE // 2 :], refined[..., -RATE // 2 :])


async def open_forty(client: Connection, calls: list[Any]) -> None:
    while len(calls) < 40:
        calls.append(client.live.Separate())
        await calls[-1].write(opening())
        await calls[-1].read()


async def test_sessions_beyond_what_the_machine_holds_are_refused(client: Connection) -> None:
    calls: list[Any] = []
    try:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await open_forty(client, calls)
        info = error_info(caught.value)
        assert info is not None
        assert info.reason == "TOO_MANY_LIVE_SESSIONS"
        assert len(calls) > 1
    finally:
        for call in calls:
            call.cancel()


async def open_sessions(server: RunningServer) -> int:
    async with await connect(server.target) as other:
        return int(other.info.open_live_sessions)


async def test_a_client_that_goes_away_leaves_its_place(server: RunningServer, client: Connection) -> None:
    call, _ = await begin(client)
    await send(call, Heard(), blocks(song(0.5)))
    call.cancel()
    async with asyncio.timeout(60):
        while await open_sessions(server):  # noqa: ASYNC110 - it changes in another process
            await asyncio.sleep(0.1)


async def test_live_is_not_late_because_of_bounces(client: Connection) -> None:
    jobs = [await submit(client, song(120.0, seed=seed)) for seed in (1, 2)]
    await assert_on_time(client, song(4.0))
    for job in jobs:
        async for event in client.bounce.WatchJob(bounce_pb2.WatchJobRequest(job_id=job.job_id)):
            if event.job.progress.done_samples > 0:
                break
        await client.bounce.CancelJob(bounce_pb2.CancelJobRequest(job_id=job.job_id))
        assert event.job.progress.done_samples > 0, "a bounce never went on"


async def test_engine_killed_in_a_session_is_told_and_every_sample_accounted_for(
    tmp_path: Path, tiny_model_dir: Path
) -> None:
    song_NC, kinds = song(90.0), live_pb2.LiveNotice
    with running_server(tmp_path / "home", tiny_model_dir) as server:
        async with await connect(server.target) as client:
            call, _ = await begin(client)
            heard = Heard()
            listening = asyncio.create_task(listen(call, heard))
            killed = restarted = 0  # how many runs had come then
            async for message in paced(blocks(song_NC), BLOCK / RATE):
                heard.sending(message.audio.num_samples)
                await call.write(message)
                if not killed and len(heard.runs) > 5:
                    killed = len(heard.runs)
                    os.kill(client.info.engine_pid, signal.SIGKILL)
                if not restarted and any(notice.kind == kinds.KIND_ENGINE_RESTARTED for notice in heard.notices):
                    restarted = len(heard.runs)
                if restarted and len(heard.runs) > restarted + 10:
                    break
            await call.done_writing()
            await listening
    assert restarted, "nobody said that the engine was another one"
    holes = [(n.start_sample, n.num_samples) for n in heard.notices if n.kind == kinds.KIND_DROPPED]
    spans = sorted([(start, stems_SCN.shape[2]) for _, start, stems_SCN in heard.runs] + holes)
    expected = 0
    for start, length in spans:
        assert start == expected
        expected = start + length
    assert expected == heard.sent
    for _, start, stems_SCN in heard.runs[-3:]:  # long after the engine came back, stems are whole again
        sum_CN = stems_SCN.sum(axis=0, dtype=np.float64)
        assert np.abs(sum_CN - song_NC[start : start + stems_SCN.shape[2]].T).max() < 2e-6


async def test_shutdown_is_announced_before_it_happens(tmp_path: Path, tiny_model_dir: Path) -> None:
    with running_server(tmp_path / "home", tiny_model_dir) as server:
        async with await connect(server.target) as client:
            call, _ = await begin(client)
            await send(call, Heard(), blocks(song(0.05)))
            server.process.send_signal(signal.SIGTERM)
            response = await call.read()
            assert response.notice.kind == live_pb2.LiveNotice.KIND_DRAINING
            assert (await refusal(call))[0] == "SHUTTING_DOWN"
        assert await asyncio.to_thread(server.process.wait, 30) == 0


async def test_a_client_that_does_not_read_cannot_hold_up_the_shutdown(tmp_path: Path, tiny_model_dir: Path) -> None:
    with running_server(tmp_path / "home", tiny_model_dir) as server:
        async with await connect(server.target) as client:
            call, _ = await begin(client)
            heard = Heard()
            sending = asyncio.create_task(send(call, heard, blocks(song(60.0))))
            await sent_until_it_waits(heard)
            assert not sending.done()
            server.process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(server.process.wait, 30) == 0
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
