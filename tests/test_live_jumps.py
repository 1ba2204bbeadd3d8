"""Jumps of the transport: what was sent before one still has its stems, at their time, and hears nothing after it."""

import asyncio
import math
import random
from itertools import cycle, pairwise

import numpy as np
import pytest
import virtual_time
from hypothesis import given, settings
from hypothesis import strategies as st
from real_time import paced
from test_live_promise import RATE, Given, plan_for
from test_live_session import PLAN, SETTINGS, separated, song_of

from pyserver.separation.live import MOST_FINISHING, LiveDropped, LiveSession, LiveStems, LiveWindow
from pyserver.separation.live_plan import LiveCosts, LivePlan
from pyserver.separation.live_stream import LiveStream
from pyserver.separation.scheduler import Scheduler

Item = LiveStems | LiveDropped


def length_of(item: Item) -> int:
    return item.num_samples if isinstance(item, LiveDropped) else item.stems_SCN.shape[-1]


def settle(session: LiveSession, windows: list[LiveWindow]) -> list[Item]:
    return [item for window in windows for item in session.accept(window, separated(window.request))]


def alone(song_CN: np.ndarray, start: int) -> tuple[list[LiveWindow], np.ndarray]:
    """Windows and stems of a stream that is nothing but this."""
    session = LiveSession(PLAN, "m", SETTINGS)
    windows = session.feed(start, song_CN, 0.0) + session.finish()
    return windows, np.concatenate([item.stems_SCN for item in settle(session, windows)], axis=-1)


class Sent:
    """Segments by the order in which they were sent; what comes back has to follow it without a gap."""

    def __init__(self) -> None:
        self.samples = 0
        self._segments: list[tuple[int, int, int]] = []  # epoch, start, where in all that was sent
        self._came = 0

    def begin(self, epoch: int, start: int) -> None:
        self._segments.append((epoch, start, self.samples))

    def came(self, item: Item) -> int:
        """Where in all that was sent the item begins."""
        epoch, start, at = next(segment for segment in reversed(self._segments) if segment[2] <= self._came)
        began = self._came
        assert (item.epoch, item.start_sample) == (epoch, start + began - at)
        self._came += length_of(item)
        return began

    def assert_all_came(self) -> None:
        assert self._came == self.samples


@settings(deadline=None, max_examples=100)
@given(
    lengths=st.lists(st.integers(1, 120), min_size=1, max_size=MOST_FINISHING),
    flush=st.booleans(),
    seed=st.integers(0, 1000),
    block=st.integers(1, 60),
)
def test_each_segment_has_the_windows_and_stems_that_it_would_have_alone(lengths, flush, seed, block):
    session = LiveSession(PLAN, "m", SETTINGS)
    starts = [1000 * (7 * number % 5) - 50 for number in range(len(lengths))]
    windows: list[LiveWindow] = []
    for start, length in zip(starts, lengths, strict=True):
        for first in range(0, length, block):
            windows += session.feed(start + first, song_of(length)[:, first : first + block], 0.0)
        if flush:
            windows += session.flush()
    windows += session.finish()
    by_request = {(window.segment, window.index): window.request for window in windows}
    assert len(by_request) == len(windows)
    random.Random(seed).shuffle(windows)
    items = settle(session, windows)
    assert [item.epoch for item in items] == sorted(item.epoch for item in items)
    for number, (start, length) in enumerate(zip(starts, lengths, strict=True)):
        own = [item for item in items if start <= item.start_sample < start + length]
        assert {item.epoch for item in own} == {number if flush else 0}
        assert own[-1].consumed_samples == start + length
        alone_windows, alone_SCN = alone(song_of(length), start)
        np.testing.assert_array_equal(np.concatenate([item.stems_SCN for item in own], axis=-1), alone_SCN)
        for window in alone_windows:
            request = by_request.pop((number, window.index))
            assert request.position == window.request.position
            np.testing.assert_array_equal(request.audio_CN, window.request.audio_CN)
    assert not by_request, "windows that nobody needs"


def test_flushes_with_nothing_between_them_only_count():
    session = LiveSession(PLAN, "m", SETTINGS)
    assert session.flush() == []
    assert session.feed(0, song_of(1)[:, :0], 0.0) == []
    assert session.flush() == []
    windows = session.feed(7, song_of(3), 0.0) + session.flush()
    windows += session.flush() + session.feed(7, song_of(3), 0.0) + session.finish() + session.finish()
    items = settle(session, windows)
    assert [(item.epoch, item.start_sample, length_of(item)) for item in items] == [(2, 7, 3), (4, 7, 3)]


@pytest.mark.parametrize("length", [1, 30, 96, 400])
def test_windows_cut_at_a_jump_are_due_when_they_would_have_been_without_it(length):
    going_on, jumping = (LiveSession(PLAN, "m", SETTINGS) for _ in range(2))
    song_CN, deadlines, jump_deadlines = song_of(length + 200), [], []
    for sent in range(0, length + 200, 8):
        now_s, block_CN = 3 + sent / 1000, song_CN[:, sent : sent + 8]
        deadlines += [window.deadline_s for window in going_on.feed(sent, block_CN, now_s)]
        if sent < length:
            block_CN = block_CN[:, : length - sent]
            jump_deadlines += [window.deadline_s for window in jumping.feed(sent, block_CN, now_s)]
    jump_deadlines += [window.deadline_s for window in jumping.flush()]
    assert jump_deadlines
    np.testing.assert_allclose(jump_deadlines, deadlines[: len(jump_deadlines)])


def test_after_a_client_that_stalled_windows_cut_at_a_jump_are_not_late_already():
    """It goes on in real time from where it is: so do the deadlines, within a block."""
    going_on, jumping = (LiveSession(PLAN, "m", SETTINGS) for _ in range(2))
    song_CN, deadlines, jump_deadlines = song_of(200), [], []
    for sent in range(0, 200, 8):
        now_s, block_CN = (3 if sent < 40 else 4) + sent / 1000, song_CN[:, sent : sent + 8]
        deadlines += [window.deadline_s for window in going_on.feed(sent, block_CN, now_s)]
        if sent < 96:
            jump_deadlines += [window.deadline_s for window in jumping.feed(sent, block_CN, now_s)]
    jump_deadlines += [window.deadline_s for window in jumping.flush()]
    behind = np.array(deadlines[: len(jump_deadlines)]) - jump_deadlines
    assert len(behind) > 4
    assert behind.min() > -1e-9
    assert behind.max() < 0.008
    assert min(jump_deadlines[1:]) > 4


def test_who_sends_faster_than_real_time_does_not_become_more_urgent_by_jumping():
    session = LiveSession(PLAN, "m", SETTINGS)
    before = session.feed(0, song_of(400), 5.0) + session.flush()
    after = session.feed(0, song_of(400), 5.0)
    first_s, last_s = after[0].deadline_s, before[-1].deadline_s
    assert first_s >= last_s - PLAN.fade_samples / 1000
    assert first_s == pytest.approx(5.0 + (400 + 20 + 12 + 30) / 1000)


class Session:
    """Plays noise exactly in real time, in loops of the transport, by a virtual clock."""

    def __init__(self, plan: LivePlan, window_s: float, *, live_preempts: bool = True) -> None:
        engine = Given(cycle([window_s]), 0.1, live_preempts=live_preempts)
        self.scheduler = Scheduler(engine)
        self.plan, self.sent = plan, Sent()
        self.stream = LiveStream(LiveSession(plan, "m", SETTINGS), self.scheduler, "live")
        self.late: list[int] = []
        self.dropped: list[LiveDropped] = []
        self.stems = 0
        self.most_waiting = 0

    async def play(self, seconds: float, loop: int, *, flush: bool) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._send(seconds, loop, flush=flush))
            async for item in self.stream:
                late = self.sent.samples - self.sent.came(item) - self.plan.latency_samples
                if isinstance(item, LiveDropped):
                    self.dropped.append(item)
                    continue
                self.stems += 1
                if late > 0:
                    self.late.append(late)
        self.sent.assert_all_came()

    async def _send(self, seconds: float, loop: int, *, flush: bool) -> None:
        block, position, epoch = self.plan.block_samples, loop, 0
        async for _ in paced(range(0, round(seconds * RATE), block), block / RATE):
            if position >= loop:
                if flush and self.sent.samples:
                    self.stream.flush()
                    epoch += 1
                position = 0
                self.sent.begin(epoch, position)
            size = min(block, loop - position)
            self.sent.samples += size
            self.stream.feed(position, np.ones((2, size), np.float32))
            position += size
            self.most_waiting = max(self.most_waiting, self.scheduler.waiting_live)
        self.stream.finish()


@pytest.mark.parametrize("flush", [True, False])
@pytest.mark.parametrize("live_preempts", [True, False])
@pytest.mark.parametrize("block", [64, 500])
@pytest.mark.parametrize(("loop_s", "window_s"), [(1.0, 0.05), (1.0, 0.2), (0.13, 0.05), (2.7, 0.02)])
def test_while_the_transport_loops_every_stem_comes_within_the_latency(loop_s, window_s, block, live_preempts, flush):
    plan = plan_for(LiveCosts(window_s=window_s, blocking_s=0.0 if live_preempts else 0.1), block)

    async def scenario() -> None:
        session = Session(plan, window_s, live_preempts=live_preempts)
        await session.play(10, round(loop_s * RATE), flush=flush)
        assert not session.dropped
        assert not session.late

    virtual_time.run(scenario())


@pytest.mark.parametrize("flush", [True, False])
def test_scrubbing_costs_no_more_than_a_few_windows_and_what_is_computed_is_of_use(flush):
    """A jump each 10 ms, with windows that take 0.2 s: twenty times more than the engine can do."""
    plan = plan_for(LiveCosts(window_s=0.2, blocking_s=0.0), 40)

    async def scenario() -> None:
        session = Session(plan, 0.2)
        await session.play(10, 40, flush=flush)
        assert session.most_waiting <= MOST_FINISHING
        assert session.stems > 0.9 * 10 / 0.2
        assert not session.late
        assert len(session.dropped) == 10 * 100 - session.stems
        epochs = [item.epoch for item in session.dropped]
        assert all(one < other for one, other in pairwise(epochs)) or not flush

    virtual_time.run(scenario())


def test_a_segment_that_is_broken_off_keeps_the_stems_of_the_windows_it_had():
    session, song_CN = LiveSession(PLAN, "m", SETTINGS), song_of(100)
    queued = []
    for number in range(MOST_FINISHING):
        queued += session.feed(number * 1000, song_CN[:, :1], 0.0) + session.flush()
    assert session.crowded
    queued += session.feed(9000, song_CN, 0.0)
    assert session.flush() == []
    queued += session.feed(20_000, song_CN[:, :1], 0.0) + session.finish()
    items = settle(session, queued)
    spans = [(item.epoch, item.start_sample, length_of(item)) for item in items if isinstance(item, LiveStems)]
    assert spans[MOST_FINISHING:] == [(4, 9000, 15), (4, 9015, 20), (4, 9035, 20), (4, 9055, 20), (5, 20_000, 1)]
    (dropped,) = [item for item in items if isinstance(item, LiveDropped)]
    assert (dropped.epoch, dropped.start_sample, dropped.num_samples) == (4, 9075, 25)
    assert items.index(dropped) == len(items) - 2
    assert not session.crowded


def test_without_deadlines_no_jump_costs_anything():
    plan = plan_for(LiveCosts(window_s=0.01, blocking_s=0.0), 1)
    plan = LivePlan(**{name: getattr(plan, name) for name in plan.__slots__} | {"deadlines": False})
    session = LiveSession(plan, "m", SETTINGS)
    windows = []
    for number in range(20):
        windows += session.feed(number * 100, song_of(1), 0.0) + session.flush()
    assert all(math.isinf(window.deadline_s) for window in windows)
    assert [item.start_sample for item in settle(session, windows)] == [number * 100 for number in range(20)]
