"""The promise of a live session on an engine whose speed is given: at what latency stems come, by a virtual clock.

No machine is fast or slow here. That the promise holds on this one is for the tests of the running server.
"""

import asyncio
from collections.abc import Iterator
from itertools import cycle

import numpy as np
import pytest
import virtual_time
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from real_time import Diary, paced
from test_live_session import SETTINGS, card, separated

from pyserver.engine.messages import DeviceInfo, SeparationSettings, WindowRequest, WindowResult
from pyserver.separation.live import LiveDropped, LiveSession
from pyserver.separation.live_plan import LiveCosts, LivePlan, plan_live
from pyserver.separation.live_stream import LiveStream
from pyserver.separation.scheduler import Scheduler

RATE = 4000
SECONDS = 6


class Given:
    """An engine that takes for live windows the times it is given, in turn, and `bounce_s` for each of a bounce."""

    def __init__(self, live_s: Iterator[float], bounce_s: float, *, live_preempts: bool) -> None:
        self.device = DeviceInfo(
            index=0, name="", backend="test", total_bytes=0, free_bytes=0, threads=1, live_preempts=live_preempts
        )
        self.bounced = 0
        self._live_s, self._bounce_s = live_s, bounce_s

    def loaded(self, model: str) -> None:
        return None

    async def run(self, request: WindowRequest, *, urgent: bool = False) -> WindowResult:
        await asyncio.sleep(next(self._live_s) if urgent else self._bounce_s)
        self.bounced += not urgent
        return separated(request)


async def bounce_without_end(scheduler: Scheduler, owner: str) -> None:
    """As BounceRunner does: one window in the engine, the next already asked for."""
    request = WindowRequest("m", np.zeros((2, 1), np.float32), RATE, 0, (0, 1), SeparationSettings(0, 0))
    ahead = asyncio.create_task(scheduler.submit(request, owner=owner))
    while True:
        following = asyncio.create_task(scheduler.submit(request, owner=owner))
        await ahead
        ahead = following


async def play(plan: LivePlan, engine: Given, bounces: int) -> Diary:
    """Sends noise exactly in real time beside so many bounces."""
    scheduler = Scheduler(engine)
    others = [asyncio.create_task(bounce_without_end(scheduler, str(number))) for number in range(bounces)]
    diary = await played(plan, scheduler, "live")
    for other in others:
        other.cancel()
    return diary


async def played(plan: LivePlan, scheduler: Scheduler, owner: str) -> Diary:
    live = LiveStream(LiveSession(plan, "m", SETTINGS), scheduler, owner)
    song_CN = np.random.default_rng(1).standard_normal((2, SECONDS * RATE)).astype(np.float32)
    context = plan.fade_samples + plan.lookahead_samples
    diary = Diary(latency=plan.latency_samples, allowance=plan.allowance_samples, context=context, rate=RATE)

    async def send() -> None:
        async for start in paced(range(0, song_CN.shape[1], plan.block_samples), plan.block_samples / RATE):
            block_CN = song_CN[:, start : start + plan.block_samples]
            diary.sent(start + block_CN.shape[1])
            live.feed(start, block_CN)
        live.finish()

    async with asyncio.timeout(2 * SECONDS), asyncio.TaskGroup() as tasks:
        tasks.create_task(send())
        position = 0
        async for item in live:
            assert item.start_sample == position
            dropped = isinstance(item, LiveDropped)
            position += item.num_samples if dropped else item.stems_SCN.shape[-1]
            diary.came(item.start_sample, position, dropped=dropped)
    assert position == song_CN.shape[1]
    return diary


def plan_for(costs: LiveCosts, block: int) -> LivePlan:
    return plan_live(
        card(live_lookahead_samples=4410, live_window_samples=4 * 44100),
        sample_rate_hz=RATE,
        channels=2,
        block_samples=block,
        costs=costs,
        max_latency_s=None,
    )


@settings(deadline=None, max_examples=30, phases=(Phase.explicit, Phase.generate))  # each is slow: none is shrunk
@given(
    window_s=st.floats(0.001, 0.4),
    bounce_s=st.floats(0.01, 1.0),
    shares=st.lists(st.floats(0, 0.99), min_size=1, max_size=5),
    block=st.integers(1, 600),
    bounces=st.integers(0, 2),
    live_preempts=st.booleans(),
)
def test_windows_that_take_no_longer_than_they_are_allowed_are_in_time_whatever_is_bounced_meanwhile(
    window_s, bounce_s, shares, block, bounces, live_preempts
):
    blocking_s = 0.0 if live_preempts else bounce_s
    plan = plan_for(LiveCosts(window_s=window_s, blocking_s=blocking_s), block)
    allowed_s = min(plan.allowance_samples / RATE - blocking_s, plan.hop_samples / RATE)
    assert allowed_s > window_s
    engine = Given(cycle([share * allowed_s for share in shares]), bounce_s, live_preempts=live_preempts)

    async def scenario() -> None:
        diary = await play(plan, engine, bounces)
        assert not diary.dropped
        assert not diary.late
        assert bool(engine.bounced) == bool(bounces), "bounces wait for live, but not for ever"

    virtual_time.run(scenario())


@pytest.mark.parametrize("live_preempts", [True, False])
def test_a_window_that_takes_too_long_is_the_only_one_that_is_late(live_preempts):
    """The clock above and the judge of real time do notice; and those after a slow window are not spoilt."""
    blocking_s = 0.0 if live_preempts else 0.1
    plan = plan_for(LiveCosts(window_s=0.02, blocking_s=blocking_s), 64)
    allowed_s = plan.allowance_samples / RATE - blocking_s
    slow = Given(iter([0.01] * 10 + [allowed_s + 0.15] + [0.01] * 1000), 0.1, live_preempts=live_preempts)

    async def scenario() -> None:
        diary = await play(plan, slow, bounces=2)
        assert diary.late == [10]
        assert diary.dropped <= 2, "only those whose time was over before the slow one had ended"
        assert len(diary.to_blame(lambda since, until: 0.0)) == 1 + diary.dropped
        assert diary.to_blame(lambda since, until: until - since) == []

    virtual_time.run(scenario())
