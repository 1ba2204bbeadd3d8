"""What a session that there is no room for is told, and whether that is true."""

import math
from contextlib import AsyncExitStack
from dataclasses import replace
from types import SimpleNamespace

import pytest
from google.protobuf.duration_pb2 import Duration
from stems.v1 import audio_pb2, live_pb2
from test_live_session import card
from test_scheduler import LOADED

from pyserver.engine.messages import DeviceInfo, LoadedModel
from pyserver.models.card import RefinerSettings
from pyserver.separation.errors import TooManyLiveSessions
from pyserver.separation.live_plan import LiveCosts, plan_live
from pyserver.service.admission import Admission

CARD = card(
    live_window_samples=4 * 44100,
    refiner=RefinerSettings(kind="consistency", default_steps=1, sigma_max={1: 0.1}, sigma_min=0.0001, rho=7.0),
)


def admission(base_s: float, step_s: float) -> Admission:
    async def load(_: str) -> LoadedModel:
        return replace(LOADED, live_base_s=base_s, live_step_s=step_s)

    device = DeviceInfo(index=0, name="", backend="test", total_bytes=0, free_bytes=0, threads=1, live_preempts=True)
    return Admission(SimpleNamespace(engine=SimpleNamespace(device=device, load=load), max_live_sessions=9))


def least_s(window_s: float) -> float:
    """The smallest latency with the longest hop: it has nothing to spare."""
    costs = LiveCosts(window_s=window_s, blocking_s=0.0)
    plan = plan_live(CARD, sample_rate_hz=44100, channels=2, block_samples=64, costs=costs, max_latency_s=20.0)
    return (plan.latency_samples - plan.hop_samples) / 44100


def opening(steps: int = 1, latency_s: float = 20.0) -> live_pb2.LiveOpen:
    latency = Duration()
    latency.FromNanoseconds(math.ceil(latency_s * 1e9))
    return live_pb2.LiveOpen(
        audio=audio_pb2.AudioSpec(sample_rate_hz=44100, channels=2),
        block_samples=64,
        quality=audio_pb2.Quality(refiner_steps=steps),
        max_latency=latency,
    )


@pytest.mark.asyncio
async def test_who_would_make_others_late_is_told_how_much_room_there_is_and_gets_in_with_that_much():
    books = admission(base_s=0.03, step_s=0.02)
    async with AsyncExitStack() as opened:
        await opened.enter_async_context(books.admitted("first", CARD, opening(latency_s=least_s(0.05))))
        await opened.enter_async_context(books.admitted("second", CARD, opening()))
        for latency_s in (20, 200):
            with pytest.raises(TooManyLiveSessions, match=r"open \(2\) late, whatever its own latency") as refused:
                await opened.enter_async_context(books.admitted("third", CARD, opening(latency_s=latency_s)))
            assert 0.03 <= float(refused.value.metadata["room_s"]) < 0.05
            assert "fewer refiner steps" in str(refused.value)
        await opened.enter_async_context(books.admitted("third", CARD, opening(steps=0)))
        with pytest.raises(TooManyLiveSessions, match=r"room for [1-9] ms; close one first"):
            await opened.enter_async_context(books.admitted("fourth", CARD, opening(steps=0)))


@pytest.mark.asyncio
async def test_closing_a_session_makes_room():
    books = admission(base_s=0.05, step_s=0.0)
    async with AsyncExitStack() as opened:
        await opened.enter_async_context(books.admitted("first", CARD, opening(latency_s=least_s(0.05))))
        async with books.admitted("second", CARD, opening()):
            with pytest.raises(TooManyLiveSessions, match="close one first"):
                await opened.enter_async_context(books.admitted("third", CARD, opening()))
        await opened.enter_async_context(books.admitted("third", CARD, opening()))


@pytest.mark.asyncio
async def test_sessions_with_latency_to_spare_leave_room_for_more_until_the_engine_has_no_time():
    books = admission(base_s=0.15, step_s=0.0)
    async with AsyncExitStack() as opened:
        for number in range(9):
            await opened.enter_async_context(books.admitted(f"{number}", CARD, opening()))
    async with AsyncExitStack() as opened:
        await opened.enter_async_context(books.admitted("tight", CARD, opening(latency_s=least_s(0.15))))
        await opened.enter_async_context(books.admitted("second", CARD, opening()))
        with pytest.raises(TooManyLiveSessions, match="late, whatever its own latency"):
            await opened.enter_async_context(books.admitted("third", CARD, opening()))
