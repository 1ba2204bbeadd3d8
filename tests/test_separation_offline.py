"""Offline sessions as arithmetic: a bounce's windows and stems, at exactly the latency they need, in any blocks."""

import asyncio
import math
from dataclasses import replace

import numpy as np
import pytest
from bounce_parts import CARD, NAMES, Arithmetic, ended, make_runner, spec
from hypothesis import given, settings
from hypothesis import strategies as st

from pyserver.engine.messages import SeparationSettings, WindowRequest, WindowResult
from pyserver.models.card import ModelCard
from pyserver.separation.errors import LatencyNotPossible
from pyserver.separation.live import LiveSession, LiveStems
from pyserver.separation.live_plan import LivePlan
from pyserver.separation.live_stream import LiveStream
from pyserver.separation.offline import plan_offline
from pyserver.separation.overlap import OverlapAdd
from pyserver.separation.scheduler import Scheduler
from pyserver.separation.windows import WindowShape, window_count
from pyserver.separation.windows import plan as plan_windows

pytestmark = pytest.mark.timeout(120)

SETTINGS = SeparationSettings(0, 0)
RATE = 44100
LIVE_CARD = replace(CARD, live_window_samples=RATE * 4, live_lookahead_samples=RATE // 2, window_samples=RATE * 8)


def planned(card: ModelCard = CARD, rate: int = RATE, block: int = 64, limit_s: float | None = None, channels: int = 2):
    return plan_offline(card, sample_rate_hz=rate, channels=channels, block_samples=block, max_latency_s=limit_s)


def song_of(length: int) -> np.ndarray:
    return np.random.default_rng(length).standard_normal((2, length)).astype(np.float32) * np.float32(0.1)


def separated(request: WindowRequest) -> WindowResult:
    """As the engine of `bounce_parts`: depends on the whole window and on its position."""
    low, high = request.keep
    kept = request.audio_CN[:, low:high]
    colour = np.float32(request.audio_CN.mean() + np.sin(request.position))
    return WindowResult(np.stack([kept * colour, kept * np.float32(0.3), np.roll(kept, 1, axis=1)]), 0.0)


def bounced(song_CN: np.ndarray, plan: LivePlan) -> np.ndarray:
    """What a bounce makes of a file, by its own parts."""
    shape = WindowShape(CARD.window_samples, CARD.margin_samples, CARD.fade_samples)
    overlap = OverlapAdd(shape, song_CN.shape[1])
    parts, around = [], shape.length
    padded_CN = np.pad(song_CN, ((0, 0), (around, around)))
    for window in plan_windows(shape, song_CN.shape[1]):
        audio_CN = padded_CN[:, window.start + around : window.stop + around]
        keep = (window.keep_start - window.start, window.keep_stop - window.start)
        request = WindowRequest("m", audio_CN, plan.sample_rate_hz, window.start, keep, SETTINGS)
        parts.append(overlap.push(window, separated(request).stems_SCN)[1])
    return np.concatenate(parts, axis=-1)


def stream(session: LiveSession, song_CN: np.ndarray, blocks: list[int], start: int):
    """Feed a song in blocks of these lengths (repeated); gives (end of what was sent so far, what came out then)."""
    sent, turn = 0, 0
    while sent < song_CN.shape[1]:
        block_CN = song_CN[:, sent : sent + blocks[turn % len(blocks)]]
        windows = session.feed(start + sent, block_CN, 0.0)
        sent, turn = sent + block_CN.shape[1], turn + 1
        for window in windows:
            for item in session.accept(window, separated(window.request)):
                yield start + sent, item
    for window in session.finish():
        for item in session.accept(window, separated(window.request)):
            yield math.inf, item


def joined(items: list[LiveStems], start: int) -> np.ndarray:
    """All stems, after making sure that they follow each other from `start` on."""
    expected = start
    for item in items:
        assert item.start_sample == expected
        expected += item.stems_SCN.shape[-1]
    return np.concatenate([item.stems_SCN for item in items], axis=-1)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 5000), st.lists(st.integers(1, 2000), min_size=1, max_size=4), st.integers(-9000, 9000))
def test_a_streams_stems_are_those_of_a_bounce_whatever_its_blocks_and_place(length, blocks, start):
    plan, song_CN = planned(), song_of(length)
    items = [item for _, item in stream(LiveSession(plan, "m", SETTINGS), song_CN, blocks, start)]
    np.testing.assert_array_equal(joined(items, start), bounced(song_CN, plan))


@pytest.mark.asyncio
@pytest.mark.parametrize("rate", [22050, 44100, 48000, 96000])
async def test_the_bounce_runner_writes_the_same_bytes(tmp_path, rate):
    song_CN, engine = song_of(20_000), Arithmetic()
    runner = make_runner(tmp_path, engine)
    job = await runner.create("r", spec(sample_rate_hz=rate))
    await runner.append_input(job.job_id, 0, np.ascontiguousarray(song_CN.T).tobytes())
    job = await ended(runner, job.job_id)
    session = LiveSession(planned(rate=rate), "m", SETTINGS)
    stems_SCN = joined([item for _, item in stream(session, song_CN, [511, 1, 3000], 12_345)], 12_345)
    for name, stem_CN in zip(NAMES, stems_SCN, strict=False):
        written = (tmp_path / job.job_id / "stems" / f"{name}.f32").read_bytes()
        assert np.ascontiguousarray(stem_CN.T).tobytes() == written, name
    await runner.close()


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 5000), st.lists(st.integers(1, 64), min_size=1, max_size=4), st.integers(-100, 100))
def test_stems_are_never_later_than_the_latency(length, blocks, start):
    plan = planned(block=64)
    for sent, item in stream(LiveSession(plan, "m", SETTINGS), song_of(length), blocks, start):
        assert math.isinf(sent) or sent <= item.start_sample + plan.latency_samples


def test_the_latency_is_needed_to_its_last_sample():
    plan = planned(block=1)
    waits = [
        sent - item.start_sample
        for sent, item in stream(LiveSession(plan, "m", SETTINGS), song_of(5000), [1], 0)
        if not math.isinf(sent)
    ]
    assert max(waits) == plan.latency_samples
    assert planned(block=512).latency_samples == plan.latency_samples + 511


@pytest.mark.parametrize("length", [1, 400, 2500])
@pytest.mark.parametrize("flush", [True, False])
def test_a_jump_ends_one_file_and_begins_another(length, flush):
    plan, first_CN, second_CN = planned(), song_of(length), song_of(3000)
    session = LiveSession(plan, "m", SETTINGS)
    windows = session.feed(-700, first_CN, 0.0)
    if flush:
        windows += session.flush()
    windows += session.feed(50_000, second_CN, 0.0) + session.finish()
    items = [item for window in windows for item in session.accept(window, separated(window.request))]
    before = [item for item in items if item.start_sample < 50_000]
    assert items[: len(before)] == before
    assert [item.epoch for item in items] == [0] * len(before) + [int(flush)] * (len(items) - len(before))
    np.testing.assert_array_equal(joined(before, -700), bounced(first_CN, plan))
    np.testing.assert_array_equal(joined(items[len(before) :], 50_000), bounced(second_CN, plan))


def test_no_window_is_computed_that_a_bounce_would_not():
    plan = planned()
    shape = WindowShape(CARD.window_samples, CARD.margin_samples, CARD.fade_samples)
    for length in {1, shape.fade, *range(shape.body - 1, 3 * shape.hop, shape.hop // 3)}:
        session = LiveSession(plan, "m", SETTINGS)
        windows = session.feed(0, song_of(length), 0.0) + session.flush()
        assert [window.index for window in windows] == list(range(window_count(shape, length)))


@pytest.mark.asyncio
async def test_who_jumps_faster_than_windows_are_computed_is_made_to_wait_and_loses_nothing():
    plan, song_CN, jumps = planned(), song_of(300), 20
    live = LiveStream(LiveSession(plan, "m", SETTINGS), Scheduler(Arithmetic(delay_s=0.005)), "offline")
    items: list[LiveStems] = []
    settled_by: list[int] = []

    async def listen() -> None:
        async for item in live:
            items.append(item)

    listening = asyncio.create_task(listen())
    for number in range(jumps):
        live.feed(number * 10_000, song_CN)
        live.flush()
        await live.room()
        settled_by.append(len({item.epoch for item in items}))
    live.finish()
    await listening
    assert all(number + 1 - settled <= 4 for number, settled in enumerate(settled_by))
    for number in range(jumps):
        own = [item for item in items if item.epoch == number]
        np.testing.assert_array_equal(joined(own, number * 10_000), bounced(song_CN, plan))


def test_results_in_any_order_leave_in_the_right_one():
    plan, song_CN = planned(), song_of(4000)
    session = LiveSession(plan, "m", SETTINGS)
    windows = session.feed(0, song_CN, 0.0) + session.finish()
    items = [item for window in reversed(windows) for item in session.accept(window, separated(window.request))]
    np.testing.assert_array_equal(joined(items, 0), bounced(song_CN, plan))


def test_the_bounce_grid_is_taken_wherever_its_latency_is_allowed():
    exact_s = planned().latency_samples / RATE
    assert planned(limit_s=exact_s).bounce_windows
    assert planned().bounce_windows


def test_within_less_latency_the_longest_live_windows_are_taken_and_they_have_no_deadline():
    plan = planned(LIVE_CARD, limit_s=2.0)
    assert not plan.bounce_windows
    assert plan.latency_s <= 2.0
    assert plan.allowance_samples == 0
    assert plan.hop_samples == RATE  # the next one, 1.5 s, does not fit beside half a second of look-ahead
    windows = LiveSession(plan, "m", SETTINGS).feed(0, np.zeros((2, 4 * RATE), np.float32), now_s=0.0)
    assert windows
    assert all(math.isinf(window.deadline_s) for window in windows)


def test_a_latency_that_no_window_has_is_refused_with_one_that_is_possible():
    with pytest.raises(LatencyNotPossible) as refused:
        planned(LIVE_CARD, limit_s=0.3)
    possible_s = float(refused.value.metadata["possible_latency_s"])
    assert planned(LIVE_CARD, limit_s=possible_s + 1e-5).latency_samples == pytest.approx(possible_s * RATE, abs=1)


@pytest.mark.asyncio
async def test_a_stream_takes_turns_with_bounces_and_nothing_of_it_is_dropped():
    engine = Arithmetic(delay_s=0.002)
    scheduler, plan, song_CN = Scheduler(engine), planned(), song_of(12_000)
    zeros_CN = np.zeros((2, CARD.window_samples), np.float32)
    busy = [
        asyncio.create_task(scheduler.submit(WindowRequest("m", zeros_CN, RATE, n, (0, 1), SETTINGS), owner="bounce"))
        for n in range(1000, 1060)
    ]
    live = LiveStream(LiveSession(plan, "m", SETTINGS), scheduler, "offline")
    live.feed(0, song_CN)
    live.finish()
    items = [item async for item in live]
    np.testing.assert_array_equal(joined(items, 0), bounced(song_CN, plan))
    computed = len([task for task in busy if task.done()])
    assert len(items) - 2 <= computed <= len(items) + 2  # turn by turn
    for task in busy:
        task.cancel()
    await asyncio.gather(*busy, return_exceptions=True)


@pytest.mark.asyncio
async def test_no_segment_begins_before_what_came_out_has_been_dealt_with():
    live = LiveStream(LiveSession(planned(), "m", SETTINGS), Scheduler(Arithmetic()), "offline")
    live.feed(0, song_of(1000))
    items = aiter(live)
    await anext(items)
    taken = asyncio.create_task(live.room())
    await asyncio.sleep(0.01)
    assert not taken.done()
    following = asyncio.create_task(anext(items))
    await asyncio.wait_for(taken, 1)
    following.cancel()
    live.close()
