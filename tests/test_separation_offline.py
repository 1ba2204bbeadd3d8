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
from pyserver.separation.live import LivePlan, LiveSession, LiveStems
from pyserver.separation.live_stream import LiveStream
from pyserver.separation.offline import OfflinePlan, OfflineSession, plan_offline
from pyserver.separation.overlap import OverlapAdd
from pyserver.separation.scheduler import Scheduler
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


def bounced(song_CN: np.ndarray, plan: OfflinePlan) -> np.ndarray:
    """What a bounce makes of a file, by its own parts."""
    overlap = OverlapAdd(plan.shape, song_CN.shape[1])
    parts, around = [], plan.shape.length
    padded_CN = np.pad(song_CN, ((0, 0), (around, around)))
    for window in plan_windows(plan.shape, song_CN.shape[1]):
        audio_CN = padded_CN[:, window.start + around : window.stop + around]
        keep = (window.keep_start - window.start, window.keep_stop - window.start)
        request = WindowRequest("m", audio_CN, plan.sample_rate_hz, window.start, keep, SETTINGS)
        parts.append(overlap.push(window, separated(request).stems_SCN)[1])
    return np.concatenate(parts, axis=-1)


def stream(session: OfflineSession, song_CN: np.ndarray, blocks: list[int], start: int):
    """Feed a song in blocks of these lengths (repeated); gives (end of what was sent so far, what came out then)."""
    sent, turn = 0, 0
    while sent < song_CN.shape[1]:
        block_CN = song_CN[:, sent : sent + blocks[turn % len(blocks)]]
        windows = session.feed(start + sent, block_CN)
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
    items = [item for _, item in stream(OfflineSession(plan, "m", SETTINGS), song_CN, blocks, start)]
    np.testing.assert_array_equal(joined(items, start), bounced(song_CN, plan))


@pytest.mark.asyncio
@pytest.mark.parametrize("rate", [22050, 44100, 48000, 96000])
async def test_the_bounce_runner_writes_the_same_bytes(tmp_path, rate):
    song_CN, engine = song_of(20_000), Arithmetic()
    runner = make_runner(tmp_path, engine)
    job = await runner.create("r", spec(sample_rate_hz=rate))
    await runner.append_input(job.job_id, 0, np.ascontiguousarray(song_CN.T).tobytes())
    job = await ended(runner, job.job_id)
    session = OfflineSession(planned(rate=rate), "m", SETTINGS)
    stems_SCN = joined([item for _, item in stream(session, song_CN, [511, 1, 3000], 12_345)], 12_345)
    for name, stem_CN in zip(NAMES, stems_SCN, strict=False):
        written = (tmp_path / job.job_id / "stems" / f"{name}.f32").read_bytes()
        assert np.ascontiguousarray(stem_CN.T).tobytes() == written, name
    await runner.close()


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 5000), st.lists(st.integers(1, 64), min_size=1, max_size=4), st.integers(-100, 100))
def test_stems_are_never_later_than_the_latency(length, blocks, start):
    plan = planned(block=64)
    for sent, item in stream(OfflineSession(plan, "m", SETTINGS), song_of(length), blocks, start):
        assert math.isinf(sent) or sent <= item.start_sample + plan.latency_samples


def test_the_latency_is_needed_to_its_last_sample():
    plan = planned(block=1)
    waits = [
        sent - item.start_sample
        for sent, item in stream(OfflineSession(plan, "m", SETTINGS), song_of(5000), [1], 0)
        if not math.isinf(sent)
    ]
    assert max(waits) == plan.latency_samples
    assert planned(block=512).latency_samples == plan.latency_samples + 511


def test_after_a_flush_a_new_file_begins_and_old_results_are_nobodys():
    plan, song_CN = planned(), song_of(3000)
    session = OfflineSession(plan, "m", SETTINGS)
    old = session.feed(0, song_of(2500))
    assert old
    session.flush()
    assert session.accept(old[0], separated(old[0].request)) == []
    items = [item for _, item in stream(session, song_CN, [700], 50_000)]
    assert {item.epoch for item in items} == {1}
    np.testing.assert_array_equal(joined(items, 50_000), bounced(song_CN, plan))


def test_a_block_that_does_not_follow_begins_a_new_file_without_counting_as_a_flush():
    plan, song_CN = planned(), song_of(3000)
    session = OfflineSession(plan, "m", SETTINGS)
    session.feed(0, song_of(500))
    items = [item for _, item in stream(session, song_CN, [700], 501)]
    assert {item.epoch for item in items} == {0}
    np.testing.assert_array_equal(joined(items, 501), bounced(song_CN, plan))


def test_results_in_any_order_leave_in_the_right_one():
    plan, song_CN = planned(), song_of(4000)
    session = OfflineSession(plan, "m", SETTINGS)
    windows = session.feed(0, song_CN) + session.finish()
    items = [item for window in reversed(windows) for item in session.accept(window, separated(window.request))]
    np.testing.assert_array_equal(joined(items, 0), bounced(song_CN, plan))


def test_the_bounce_grid_is_taken_wherever_its_latency_is_allowed():
    exact_s = planned().latency_samples / RATE
    assert isinstance(planned(limit_s=exact_s), OfflinePlan)
    assert isinstance(planned(), OfflinePlan)


def test_within_less_latency_the_longest_live_windows_are_taken_and_they_have_no_deadline():
    plan = planned(LIVE_CARD, limit_s=2.0)
    assert isinstance(plan, LivePlan)
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
    live = LiveStream(OfflineSession(plan, "m", SETTINGS), scheduler, "offline")
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
async def test_what_came_out_counts_as_taken_only_when_it_has_been_dealt_with():
    live = LiveStream(OfflineSession(planned(), "m", SETTINGS), Scheduler(Arithmetic()), "offline")
    live.feed(0, song_of(1000))
    items = aiter(live)
    await anext(items)
    taken = asyncio.create_task(live.taken())
    await asyncio.sleep(0.01)
    assert not taken.done()
    following = asyncio.create_task(anext(items))
    await asyncio.wait_for(taken, 1)
    following.cancel()
    live.close()
