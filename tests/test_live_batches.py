"""Sessions beside each other whose windows share batches, by a virtual clock: what was promised to each still holds."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import virtual_time
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st
from test_live_promise import RATE, plan_for, played
from test_live_session import SETTINGS, separated
from test_scheduler import LOADED

from pyserver.engine.messages import DeviceInfo, LoadedModel, WindowRequest, WindowResult
from pyserver.separation.live import LiveSession
from pyserver.separation.live_plan import LiveCosts
from pyserver.separation.live_stream import LiveStream
from pyserver.separation.scheduler import Scheduler


class NoGain:
    """An engine whose batches take as long as their windows one after the other: the worst there can be."""

    device = DeviceInfo(index=0, name="", backend="test", total_bytes=0, free_bytes=0, threads=1, live_preempts=True)

    def __init__(self, window_s: float) -> None:
        self.window_s = window_s
        self.sizes: list[int] = []

    def loaded(self, model: str) -> LoadedModel:
        return replace(LOADED, live_batch=8)

    async def run(self, request: WindowRequest, *, urgent: bool = False) -> WindowResult:
        return (await self.run_together([request]))[0]

    async def run_together(self, requests: Sequence[WindowRequest]) -> list[WindowResult]:
        self.sizes.append(len(requests))
        await asyncio.sleep(len(requests) * self.window_s)
        return [replace(separated(request), compute_s=self.window_s) for request in requests]


def admitted(sessions: int, window_s: float):
    """Plans as a server would give them one after the other."""
    plans = []
    for others in range(sessions):
        load = sum(plan.load for plan in plans)
        plans.append(
            plan_for(LiveCosts(window_s=window_s, blocking_s=0, other_live_s=others * window_s, other_load=load), 64)
        )
    return plans


async def ahead_of_time(scheduler: Scheduler, plan) -> None:
    """A client that sends all it has at once, and whose windows are due later and later."""
    stream = LiveStream(LiveSession(plan, "m", SETTINGS), scheduler, "ahead")
    stream.feed(0, np.zeros((2, 4 * RATE), np.float32))
    stream.finish()
    async for _ in stream:
        pass


@settings(deadline=None, max_examples=25, phases=(Phase.explicit, Phase.generate))
@given(
    sessions=st.integers(2, 4),
    window_s=st.floats(0.002, 0.025),
    offsets=st.lists(st.sampled_from([0.0, 0.001, 0.01, 0.03]), min_size=4, max_size=4),
    one_is_ahead=st.booleans(),
)
def test_no_session_is_late_because_its_windows_share_batches(sessions, window_s, offsets, one_is_ahead):
    plans, engine = admitted(sessions, window_s), NoGain(window_s)
    together_s = 1.25 * sessions * window_s
    assume(all(together_s <= plan.allowance_samples / RATE for plan in plans))  # or there were no room beside them
    scheduler = Scheduler(engine)

    async def one(number: int):
        await asyncio.sleep(offsets[number])
        return await played(plans[number], scheduler, str(number))

    async def scenario() -> None:
        in_time = [one(number) for number in range(sessions - one_is_ahead)]
        others = [ahead_of_time(scheduler, plans[-1])] if one_is_ahead else []
        for diary in (await asyncio.gather(*in_time, *others))[: len(in_time)]:
            assert not diary.dropped
            assert not diary.late

    virtual_time.run(scenario())


def test_sessions_that_begin_together_are_computed_together():
    engine = NoGain(0.01)
    scheduler = Scheduler(engine)

    async def scenario() -> None:
        await asyncio.gather(*(played(plan, scheduler, str(number)) for number, plan in enumerate(admitted(3, 0.01))))

    virtual_time.run(scenario())
    assert engine.sizes[0] == 1, "it is not known yet how long one takes"
    assert sum(engine.sizes) > 1.5 * len(engine.sizes)
