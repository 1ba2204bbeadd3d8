"""The scheduler's promises, on a clockwork engine that finishes windows when the test says so."""

import asyncio
import time

import numpy as np
import pytest

from pyserver.engine.messages import DeviceInfo, SeparationSettings, WindowRequest, WindowResult
from pyserver.separation.errors import DeadlineMissed
from pyserver.separation.scheduler import Scheduler

pytestmark = pytest.mark.asyncio


class Clockwork:
    """Holds every window until `step`; remembers the order and the most that was ever under way."""

    def __init__(self, *, live_preempts: bool) -> None:
        self.device = DeviceInfo(
            index=0, name="", backend="test", total_bytes=0, free_bytes=0, threads=1, live_preempts=live_preempts
        )
        self.begun: list[int] = []
        self.urgent: list[bool] = []
        self.most = 0
        self._gates: dict[int, asyncio.Future[None]] = {}

    async def run(self, request: WindowRequest, *, urgent: bool = False) -> WindowResult:
        self.begun.append(request.position)
        self.urgent.append(urgent)
        gate = self._gates[request.position] = asyncio.get_running_loop().create_future()
        self.most = max(self.most, len(self._gates))
        try:
            await gate
        finally:
            del self._gates[request.position]
        return WindowResult(np.full((1, 1, 1), request.position, np.float32), 0.0)

    async def step(self, error: Exception | None = None) -> None:
        """Finish the window that began first, then let everything settle."""
        gate = next(iter(self._gates.values()))
        if error:
            gate.set_exception(error)
        else:
            gate.set_result(None)
        await settle()


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def window(position: int) -> WindowRequest:
    return WindowRequest("m", np.zeros((1, 1), np.float32), 44100, position, (0, 1), SeparationSettings(0, 0))


async def start(scheduler: Scheduler, position: int, owner: str = "a", deadline: float | None = None):
    extra = {} if deadline is None else {"deadline": time.monotonic() + deadline}
    task = asyncio.create_task(scheduler.submit(window(position), owner=owner, **extra))
    await settle()
    return task


async def test_bounces_take_turns_whoever_asks_for_more():
    engine = Clockwork(live_preempts=False)
    scheduler = Scheduler(engine)
    tasks = [await start(scheduler, position, "greedy") for position in range(4)]
    tasks += [await start(scheduler, position, "late") for position in (10, 11)]
    assert scheduler.waiting_bounce == 5
    while len(engine.begun) < 6:
        await engine.step()
    await engine.step()
    assert engine.begun == [0, 1, 10, 2, 11, 3]
    assert engine.most == 1
    assert [int((await task).stems_SCN[0, 0, 0]) for task in tasks] == [0, 1, 2, 3, 10, 11]


async def test_live_goes_first_and_the_earliest_deadline_before_others():
    engine = Clockwork(live_preempts=False)
    scheduler = Scheduler(engine)
    tasks = [await start(scheduler, 0), await start(scheduler, 1)]
    tasks += [await start(scheduler, position, "live", deadline) for position, deadline in ((20, 9), (21, 5), (22, 7))]
    assert (scheduler.waiting_live, scheduler.waiting_bounce) == (3, 1)
    for _ in tasks:
        await engine.step()
    assert engine.begun == [0, 21, 22, 20, 1]
    assert engine.urgent == [False, True, True, True, False]
    await asyncio.gather(*tasks)


async def test_where_live_preempts_it_does_not_wait_for_the_bounce_under_way():
    engine = Clockwork(live_preempts=True)
    scheduler = Scheduler(engine)
    tasks = [await start(scheduler, 0), await start(scheduler, 1), await start(scheduler, 20, "live", 5)]
    assert engine.begun == [0, 20]
    for _ in tasks:
        await engine.step()
    await asyncio.gather(*tasks)
    assert engine.most == 2


async def test_a_cancelled_caller_takes_its_window_out_of_the_queue():
    engine = Clockwork(live_preempts=False)
    scheduler = Scheduler(engine)
    first, second, third = [await start(scheduler, position) for position in range(3)]
    second.cancel()
    await settle()
    assert scheduler.waiting_bounce == 1
    await engine.step()
    await engine.step()
    assert engine.begun == [0, 2]
    await asyncio.gather(first, third)


async def test_a_window_given_up_while_computing_keeps_the_engine_busy_until_it_ends():
    engine = Clockwork(live_preempts=False)
    scheduler = Scheduler(engine)
    first, second = await start(scheduler, 0), await start(scheduler, 1)
    first.cancel()
    await settle()
    assert engine.begun == [0]
    await engine.step()
    assert engine.begun == [0, 1]
    await engine.step()
    await second


async def test_a_live_window_that_is_late_already_is_not_computed():
    engine = Clockwork(live_preempts=False)
    scheduler = Scheduler(engine)
    busy = await start(scheduler, 0)
    late = await start(scheduler, 20, "live", 0.01)
    in_time = await start(scheduler, 21, "live", 60)
    await asyncio.sleep(0.02)
    await engine.step()
    assert engine.begun == [0, 21]
    with pytest.raises(DeadlineMissed, match="ms late"):
        await late
    await engine.step()
    await asyncio.gather(busy, in_time)


async def test_an_error_reaches_its_caller_and_nobody_else():
    engine = Clockwork(live_preempts=False)
    scheduler = Scheduler(engine)
    first, second = await start(scheduler, 0), await start(scheduler, 1)
    await engine.step(MemoryError("no"))
    with pytest.raises(MemoryError):
        await first
    await engine.step()
    assert (await second).stems_SCN[0, 0, 0] == 1
