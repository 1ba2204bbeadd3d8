"""The scheduler's promises, on a clockwork engine that finishes windows when the test says so."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from pyserver.engine.messages import DeviceInfo, LoadedModel, SeparationSettings, WindowRequest, WindowResult
from pyserver.separation.errors import DeadlineMissed
from pyserver.separation.scheduler import Scheduler

pytestmark = pytest.mark.asyncio

LOADED = LoadedModel(
    name="m", weights_sha256="", realtime_factor=1.0, bounce_window_s=1.0, live_base_s=1.0, live_step_s=0.0
)
BROKEN = 66


class Clockwork:
    """Holds every window until `step`; remembers the order and the most that was ever under way."""

    def __init__(self, *, live_preempts: bool, live_batch: int = 1, alone_s: float = 0.0) -> None:
        self.live_batch, self.alone_s = live_batch, alone_s
        self.together: list[list[int]] = []
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
        return WindowResult(np.full((1, 1, 1), request.position, np.float32), self.alone_s)

    def loaded(self, model: str) -> LoadedModel:
        return replace(LOADED, name=model, live_batch=self.live_batch)

    async def run_together(self, requests: Sequence[WindowRequest]) -> list[WindowResult | Exception]:
        self.together.append([request.position for request in requests])
        gate = self._gates[requests[0].position] = asyncio.get_running_loop().create_future()
        self.most = max(self.most, len(self._gates))
        try:
            await gate
        finally:
            del self._gates[requests[0].position]
        return [
            WindowResult(np.full((1, 1, 1), request.position, np.float32), 0.0)
            if request.position != BROKEN
            else MemoryError("no")
            for request in requests
        ]

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


def window(position: int, **changes: object) -> WindowRequest:
    common = WindowRequest("m", np.zeros((1, 1), np.float32), 44100, position, (0, 1), SeparationSettings(0, 0))
    return replace(common, **changes)


async def start(
    scheduler: Scheduler, position: int, owner: str = "a", deadline: float | None = None, **changes: object
):
    extra = {} if deadline is None else {"deadline": time.monotonic() + deadline}
    task = asyncio.create_task(scheduler.submit(window(position, **changes), owner=owner, **extra))
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


async def waiting_live(engine: Clockwork, *windows: tuple[int, str, float], **changes: object):
    """A scheduler whose engine knows windows of this shape and is busy with one, and others that wait beside it."""
    scheduler = Scheduler(engine)
    tasks = [await start(scheduler, 0, "first", 90)]
    await engine.step()
    tasks.append(await start(scheduler, 1, "first", 91))
    tasks += [await start(scheduler, *entry, **changes) for entry in windows]
    return scheduler, tasks


async def test_live_windows_that_wait_share_a_batch_by_deadline_and_each_gets_its_own_stems():
    engine = Clockwork(live_preempts=True, live_batch=3)
    _, tasks = await waiting_live(engine, (20, "a", 9), (21, "b", 5), (22, "c", 7), (23, "d", 6))
    for _ in range(3):
        await engine.step()
    assert engine.together == [[21, 23, 22]]
    assert engine.begun == [0, 1, 20]
    assert [int((await task).stems_SCN[0, 0, 0]) for task in tasks] == [0, 1, 20, 21, 22, 23]
    assert engine.most == 1


async def test_where_the_engine_found_no_gain_in_batches_there_are_none():
    engine = Clockwork(live_preempts=True, live_batch=1)
    _, tasks = await waiting_live(engine, (20, "a", 9), (21, "b", 5))
    while len(engine.begun) < 4:
        await engine.step()
    assert (engine.begun, engine.together) == ([0, 1, 21, 20], [])
    await engine.step()
    await asyncio.gather(*tasks)


@pytest.mark.parametrize(
    "other",
    [
        {"model": "another"},
        {"sample_rate_hz": 48000},
        {"audio_CN": np.zeros((1, 2), np.float32)},
        {"audio_CN": np.zeros((2, 1), np.float32)},
        {"settings": SeparationSettings(1, 0)},
    ],
)
async def test_what_cannot_share_a_pass_is_neither_in_the_batch_nor_passed_over(other: dict[str, object]):
    engine = Clockwork(live_preempts=True, live_batch=4)
    scheduler, tasks = await waiting_live(engine, (20, "a", 5), (21, "b", 6))
    tasks += [await start(scheduler, 30, "c", 7, **other), await start(scheduler, 22, "d", 8)]
    while len(engine.begun) < 4:
        await engine.step()
    assert engine.together == [[20, 21]]
    assert engine.begun == [0, 1, 30, 22]
    await engine.step()
    await asyncio.gather(*tasks)


async def test_seed_and_kept_part_are_no_obstacle_to_a_batch():
    engine = Clockwork(live_preempts=True, live_batch=4)
    scheduler, tasks = await waiting_live(engine, (20, "a", 5))
    tasks.append(await start(scheduler, 21, "b", 6, settings=SeparationSettings(0, 7), keep=(0, 0)))
    await engine.step()
    await engine.step()
    assert engine.together == [[20, 21]]
    await asyncio.gather(*tasks)


async def test_windows_without_a_deadline_are_never_in_a_batch():
    engine = Clockwork(live_preempts=False, live_batch=4)
    scheduler, tasks = await waiting_live(engine, (20, "a", 5), (21, "b", 6))
    tasks += [await start(scheduler, position, owner) for position, owner in ((30, "c"), (31, "d"), (32, "e"))]
    while len(engine.begun) < 5:
        await engine.step()
    assert engine.together == [[20, 21]]
    assert engine.begun == [0, 1, 30, 31, 32]
    await engine.step()
    await asyncio.gather(*tasks)


async def test_a_session_that_is_ahead_of_time_does_not_fill_a_batch_with_its_windows():
    """Another session's window would have to wait for all of them, and is promised to wait for no more than one."""
    engine = Clockwork(live_preempts=True, live_batch=4)
    _, tasks = await waiting_live(engine, (20, "a", 5), (21, "b", 6), (22, "a", 7), (23, "c", 8))
    for _ in range(3):
        await engine.step()
    assert engine.together == [[20, 21], [22, 23]]
    await asyncio.gather(*tasks)


async def test_the_first_of_a_batch_is_not_made_late_by_its_company():
    engine = Clockwork(live_preempts=True, live_batch=4, alone_s=10.0)
    _, tasks = await waiting_live(engine, (20, "a", 30), (21, "b", 31), (22, "c", 32), (23, "d", 40))
    for _ in range(3):
        await engine.step()
    assert engine.together == [[20, 21], [22, 23]], "three may take 1.25 * 30 s, and the first is due in less"
    await asyncio.gather(*tasks)


async def test_late_and_cancelled_windows_are_in_no_batch():
    engine = Clockwork(live_preempts=True, live_batch=4)
    _, tasks = await waiting_live(engine, (20, "a", 0.01), (21, "b", 5), (22, "c", 6), (23, "d", 7))
    tasks.pop(4).cancel()
    await asyncio.sleep(0.02)
    await engine.step()
    with pytest.raises(DeadlineMissed, match="ms late"):
        await tasks.pop(2)
    assert engine.together == [[21, 23]]
    await engine.step()
    await asyncio.gather(*tasks)


async def test_a_window_of_a_batch_that_fails_fails_alone():
    engine = Clockwork(live_preempts=True, live_batch=4)
    _, tasks = await waiting_live(engine, (20, "a", 5), (BROKEN, "b", 6), (22, "c", 7))
    await engine.step()
    await engine.step()
    assert engine.together == [[20, BROKEN, 22]]
    with pytest.raises(MemoryError):
        await tasks.pop(3)
    assert [int((await task).stems_SCN[0, 0, 0]) for task in tasks] == [0, 1, 20, 22]


async def test_an_engine_that_fails_a_whole_batch_tells_everybody_and_goes_on():
    engine = Clockwork(live_preempts=True, live_batch=4)
    _, tasks = await waiting_live(engine, (20, "a", 5), (21, "b", 6), (22, "a", 7))
    await engine.step()
    await engine.step(MemoryError("no"))
    for position in (2, 3):
        with pytest.raises(MemoryError):
            await tasks[position]
    await engine.step()
    assert int((await tasks[4]).stems_SCN[0, 0, 0]) == 22
