"""Live arithmetic: latency is exact and constant, stems lie where their samples lay, whatever the blocks look like."""

import asyncio
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyserver.engine.messages import SeparationSettings, WindowRequest, WindowResult
from pyserver.models.card import ModelCard
from pyserver.separation.errors import DeadlineMissed, LatencyNotPossible, TooManyLiveSessions
from pyserver.separation.live import LiveDropped, LiveSession, LiveStems
from pyserver.separation.live_plan import LiveCosts, LivePlan, plan_live
from pyserver.separation.live_stream import LiveStream

SETTINGS = SeparationSettings(1, 0)
PLAN = LivePlan(
    sample_rate_hz=1000,
    channels=2,
    stems=2,
    window_samples=90,
    hop_samples=20,
    fade_samples=5,
    lookahead_samples=12,
    allowance_samples=30,
    block_samples=8,
    load=0.1,
)


def card(**changes: object) -> ModelCard:
    base = ModelCard(
        name="m",
        title="",
        architecture="band_split",
        config={},
        stems=("a", "b"),
        sample_rate_hz=44100,
        channels=2,
        window_samples=44100 * 8,
        margin_samples=4410,
        fade_samples=4410,
        live_window_samples=44100 * 4,
        live_lookahead_samples=22050,
        reference_rms=0.1,
        complete=True,
        refiner=None,
        licence="",
        weights=(),
        sha256={},
    )
    return replace(base, **changes)


def plan_for(window_s: float, *, max_latency_s: float | None = None, rate: int = 48000, **costs: float) -> LivePlan:
    all_costs = LiveCosts(window_s=window_s, **{"blocking_s": 0.0, **costs})
    return plan_live(
        card(), sample_rate_hz=rate, channels=2, block_samples=512, costs=all_costs, max_latency_s=max_latency_s
    )


def separated(request: WindowRequest) -> WindowResult:
    """A perfect pair of stems: one and three quarters of the mixture; computed from the request alone."""
    low, high = request.keep
    kept = request.audio_CN[:, low:high]
    return WindowResult(np.stack([kept * np.float32(0.25), kept * np.float32(0.75)]), 0.001)


def song_of(length: int) -> np.ndarray:
    return np.random.default_rng(length).standard_normal((2, length)).astype(np.float32)


def stream(song: np.ndarray, blocks: list[int], start: int, plan: LivePlan = PLAN):
    """Feed a song in blocks of these lengths (repeated); gives (samples sent so far, what came out then)."""
    session, sent, turn = LiveSession(plan, "m", SETTINGS), 0, 0
    while sent < song.shape[1]:
        size = blocks[turn % len(blocks)]
        block = song[:, sent : sent + size]
        for window in session.feed(start + sent, block, now_s=sent / plan.sample_rate_hz):
            for item in session.accept(window, separated(window.request)):
                yield start + sent + block.shape[1], item
        sent += block.shape[1]
        turn += 1
    for window in session.finish():
        for item in session.accept(window, separated(window.request)):
            yield math.inf, item


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 300), st.lists(st.integers(1, 50), min_size=1, max_size=4), st.integers(-100, 100))
def test_stems_are_contiguous_and_sum_to_the_input_however_it_is_cut(length, blocks, start):
    song = song_of(length)
    expected_start, parts = start, []
    for _, item in stream(song, blocks, start):
        assert isinstance(item, LiveStems)
        assert item.start_sample == expected_start
        expected_start += item.stems_SCN.shape[-1]
        parts.append(item.stems_SCN)
    stems = np.concatenate(parts, axis=-1)
    assert stems.shape == (2, 2, length)
    np.testing.assert_allclose(stems.sum(0), song, atol=1e-6)
    np.testing.assert_allclose(stems[0], song * 0.25, atol=1e-6)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 300), st.lists(st.integers(1, 8), min_size=1, max_size=4), st.integers(-100, 100))
def test_without_computing_time_stems_are_never_later_than_latency_less_the_allowance(length, blocks, start):
    for sent, item in stream(song_of(length), blocks, start):
        if sent is not math.inf:
            assert sent <= item.start_sample + PLAN.latency_samples - PLAN.allowance_samples


def test_the_latency_is_used_up_to_its_last_sample():
    # Blocks of 8 that end one sample after a window is complete: the longest wait there is.
    waits = [
        sent - item.start_sample for sent, item in stream(song_of(2000), [3, *[8] * 300], 0) if sent is not math.inf
    ]
    assert max(waits) == PLAN.latency_samples - PLAN.allowance_samples


@pytest.mark.parametrize("blocks", [[1], [7, 64, 3], [500]])
def test_the_same_stems_whatever_the_blocks(blocks):
    def stems(cut):
        return b"".join(item.stems_SCN.tobytes() for _, item in stream(song_of(500), cut, -30))

    assert hash(stems(blocks)) == hash(stems([20]))


def test_windows_see_zeros_before_the_first_block_and_all_of_the_past_after_it():
    session = LiveSession(PLAN, "m", SETTINGS)
    song = song_of(400)
    windows = session.feed(1000, song, 0.0)
    assert windows[0].request.position == 1000 + 20 + 12 - 90
    assert not windows[0].request.audio_CN[:, : 90 - 32].any()
    for window in windows:
        request = window.request
        at = request.position - 1000
        if at >= 0:
            assert (request.audio_CN == song[:, at : at + 90]).all()


def test_deadlines_leave_the_allowance_and_never_run_ahead_of_real_time():
    real_time = LiveSession(PLAN, "m", SETTINGS)
    song = song_of(400)
    for sent in range(0, 400, 4):
        now_s = 5 + (sent + 4) / 1000
        for window in real_time.feed(sent, song[:, sent : sent + 4], now_s):
            assert window.deadline_s == pytest.approx(now_s + 0.030, abs=0.0041)
    at_once = LiveSession(PLAN, "m", SETTINGS).feed(0, song, 5.0)
    gaps = np.diff([window.deadline_s for window in at_once])
    np.testing.assert_allclose(gaps, 0.020)


def test_a_dropped_window_leaves_a_hole_of_its_own_size_and_moves_nothing():
    session, song = LiveSession(PLAN, "m", SETTINGS), song_of(200)
    windows = [*session.feed(0, song, 0.0), *session.finish()]
    items = []
    for window in windows:
        if window.index == 3:
            items += session.drop(window, "late")
        else:
            items += session.accept(window, separated(window.request))
    position = 0
    for item in items:
        assert item.start_sample == position
        if isinstance(item, LiveDropped):
            assert (item.start_sample, item.num_samples, item.message) == (55, 20, "late")
            position += item.num_samples
        else:
            at = slice(position, position + item.stems_SCN.shape[-1])
            np.testing.assert_allclose(item.stems_SCN.sum(0), song[:, at], atol=1e-6)
            position = at.stop
    assert position == 200


def test_results_in_any_order_leave_in_the_right_one():
    session = LiveSession(PLAN, "m", SETTINGS)
    windows = session.feed(0, song_of(200), 0.0)
    items = [item for window in reversed(windows) for item in session.accept(window, separated(window.request))]
    starts = [item.start_sample for item in items]
    assert starts == sorted(starts)
    assert len(items) == len(windows)


def test_new_settings_hold_from_the_next_window_on():
    session = LiveSession(PLAN, "m", SETTINGS)
    before = session.feed(0, song_of(40), 0.0)
    session.settings = SeparationSettings(0, 0)
    after = session.feed(40, song_of(40), 0.0)
    assert {window.request.settings.refiner_steps for window in before} == {1}
    assert {window.request.settings.refiner_steps for window in after} == {0}


def test_a_faster_machine_is_given_a_smaller_latency_and_never_more_load_than_it_can_hold():
    plans = [plan_for(window_s) for window_s in (0.01, 0.1, 0.25, 0.5, 1.0)]
    assert [plan.latency_samples for plan in plans] == sorted(plan.latency_samples for plan in plans)
    assert all(plan.load <= 0.6 for plan in plans)
    assert plans[0].hop_samples == 4800


def test_latency_is_the_sum_of_its_parts():
    plan = plan_for(0.1, blocking_s=0.4)
    assert 0.115 < plan.turn_s < 0.125  # at another rate than the model's, and passed on to the client
    assert plan.allowance_samples == round((0.4 + 2.5 * plan.turn_s + 0.05) * 48000)
    context = plan.hop_samples + plan.fade_samples + plan.lookahead_samples
    assert plan.latency_samples == context + plan.allowance_samples + 511
    assert plan.lookahead_samples == 24000


def test_a_latency_that_cannot_be_held_is_refused_and_the_one_offered_instead_is_possible():
    with pytest.raises(LatencyNotPossible, match="the smallest that can is") as refused:
        plan_for(0.5, max_latency_s=0.2)
    possible_s = float(refused.value.metadata["possible_latency_s"])
    assert plan_for(0.5, max_latency_s=possible_s).latency_s <= possible_s


def test_more_latency_than_needed_buys_less_load():
    smallest = plan_for(0.05)
    relaxed = plan_for(0.05, max_latency_s=2.0)
    assert relaxed.load < smallest.load
    assert relaxed.latency_s <= 2.0


@pytest.mark.parametrize("max_latency_s", [1.0, 1.37, 2.0, 100.0])
def test_what_is_left_of_a_latency_is_time_for_computing_up_to_a_hop(max_latency_s: float) -> None:
    plan = plan_for(0.05, max_latency_s=max_latency_s)
    more = plan.allowance_samples - round((0.05 + 2.5 * plan.turn_s) * 48000)
    assert more == min(plan.hop_samples, int(max_latency_s * 48000) - (plan.latency_samples - more))


def test_longer_windows_and_more_stems_take_longer_to_be_passed_on():
    short, long = plan_for(0.01), plan_for(0.01, max_latency_s=3.0)
    assert long.hop_samples > short.hop_samples
    assert 0.011 < short.turn_s < long.turn_s < 0.03


def test_a_model_that_no_hop_can_hold_is_refused():
    with pytest.raises(LatencyNotPossible, match="too slow for live use"):
        plan_for(2.0)


def test_a_machine_that_is_full_of_live_sessions_takes_no_more():
    with pytest.raises(TooManyLiveSessions):
        plan_for(0.1, other_load=0.79)


def test_windows_keep_at_least_as_much_past_as_look_ahead():
    plan = plan_for(0.01, rate=44100, max_latency_s=100.0)
    assert plan.window_samples - plan.hop_samples - plan.fade_samples >= 2 * plan.lookahead_samples


class Late:
    """A scheduler that is late for every third window and else takes a moment."""

    def __init__(self) -> None:
        self.count = 0

    async def submit(self, request: WindowRequest, *, owner: str, deadline: float) -> WindowResult:
        self.count += 1
        await asyncio.sleep(0)
        if self.count % 3 == 0:
            raise DeadlineMissed("late")
        return separated(request)


@pytest.mark.asyncio
async def test_a_stream_names_every_sample_once_and_ends_after_its_tail():
    live = LiveStream(LiveSession(PLAN, "m", SETTINGS), Late(), "me")
    for start in range(0, 200, 10):
        live.feed(start, song_of(10))
        await asyncio.sleep(0)
    live.finish()
    position = 0
    async for item in live:
        assert item.start_sample == position
        position += item.num_samples if isinstance(item, LiveDropped) else item.stems_SCN.shape[-1]
    assert position == 200


@pytest.mark.asyncio
async def test_a_stream_whose_engine_fails_raises_what_the_engine_raised():
    class Broken:
        async def submit(self, *_: object, **__: object) -> WindowResult:
            raise MemoryError("full")

    live = LiveStream(LiveSession(PLAN, "m", SETTINGS), Broken(), "me")
    live.feed(0, song_of(100))
    with pytest.raises(MemoryError, match="full"):
        async for _ in live:
            pass


@pytest.mark.asyncio
async def test_closing_takes_windows_out_of_the_queue():
    class Stuck:
        cancelled = 0

        async def submit(self, *_: object, **__: object) -> WindowResult:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
            raise AssertionError

    scheduler = Stuck()
    live = LiveStream(LiveSession(PLAN, "m", SETTINGS), scheduler, "me")
    live.feed(0, song_of(100))
    live.flush()
    live.feed(500, song_of(40))
    await asyncio.sleep(0)
    live.close()
    await asyncio.sleep(0.01)
    assert scheduler.cancelled == 4 + 2 + 1
    async with asyncio.timeout(5):
        assert [item async for item in live] == []
