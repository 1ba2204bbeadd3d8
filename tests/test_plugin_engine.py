"""What the plugin's audio thread runs, held against numpy: whatever the host and the server do, the seven stems sum to
the input of `latency` frames before, and what a stem bus plays is that stem at that frame.

Axes: S stems, C channels, N frames.
"""

import importlib
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

BUILD = Path(os.environ.get("STEMLINE_PLUGIN_BUILD", Path(__file__).parent.parent / "build" / "plugin"))
SEPARATED = 6
RATE = 48000.0


@pytest.fixture(scope="module")
def engine():
    sys.path.insert(0, str(BUILD / "python"))
    try:
        return importlib.import_module("stemline_engine")
    except ImportError as error:
        pytest.fail(f"no module stemline_engine for this Python in {BUILD / 'python'} ({error}); run `make plugin`")
    finally:
        sys.path.pop(0)


def noise_CN(seed: int, channels: int, frames: int):
    return np.random.default_rng(seed).uniform(-1, 1, (channels, frames)).astype(np.float32)


def stems_SCN(frame: int, channels: int, frames: int):
    """The stems of these frames: each sample tells its stem, channel and frame, and none is near zero."""
    number_N = np.arange(frame, frame + frames) % 4093
    plane_SC1 = np.arange(SEPARATED * channels).reshape(SEPARATED, channels, 1)
    sign_S11 = np.array([1, -1, 1, -1, 1, -1]).reshape(SEPARATED, 1, 1)
    return (sign_S11 * (0.125 + (number_N * 12 + plane_SC1) / 2**18)).astype(np.float32)


@dataclass
class Server:
    """Answers like the real one: by epoch and host position, in any order, when it is told to."""

    player: object
    channels: int
    segments: dict = field(default_factory=dict)
    waiting: list = field(default_factory=list)
    there: np.ndarray = field(default_factory=lambda: np.zeros(200_000, bool))  # by frame
    heard: list = field(default_factory=list)

    def drain(self, largest: int = 480) -> None:
        while (run := self.player.input.read(largest)) is not None:
            segment, frame, audio_CN = run
            self.segments[segment.epoch] = segment
            self.heard.append((frame, audio_CN.copy()))
            start_sample = segment.position + frame - segment.first_frame
            self.waiting.append((segment.epoch, start_sample, audio_CN.shape[1]))

    def answer(self, index: int) -> None:
        epoch, start_sample, frames = self.waiting.pop(index)
        segment = self.segments[epoch]
        frame = segment.first_frame + start_sample - segment.position
        written = self.player.timeline.write(frame, stems_SCN(frame, self.channels, frames))
        assert written.placed + written.late == frames
        self.there[frame + written.late : frame + frames] = True

    def there_from(self, frame: int, frames: int):
        wanted_N = np.arange(frame, frame + frames)
        return (wanted_N < 0) | self.there[np.maximum(wanted_N, 0)]


# A host's and a server's moves; numbers are made to fit when they are applied.
moves = st.one_of(
    st.tuples(st.just("play"), st.sampled_from([0, 1, 2, 17, 64, 255, 256, 257, 512, 1111])),
    st.tuples(st.just("jump"), st.integers(-(10**6), 10**6)),
    st.tuples(st.just("turn"), st.just(0)),
    st.tuples(st.just("answer"), st.integers(0, 1000)),
    st.tuples(st.just("answer all"), st.just(0)),
    st.tuples(st.just("drop"), st.integers(0, 1000)),
)


@settings(max_examples=60, deadline=None)
@given(
    script=st.lists(moves, min_size=5, max_size=80),
    channels=st.integers(1, 2),
    max_block=st.sampled_from([1, 64, 512]),
    latency=st.integers(512, 2500),
    seed=st.integers(0, 100),
)
def test_the_sum_is_the_delayed_input_and_every_stem_is_at_its_frame(
    engine, script, channels, max_block, latency, seed
):
    player = engine.LivePlayer(channels, max_block, latency, RATE)
    server = Server(player, channels)
    position, playing, frame, gain_before = 0, True, 0, 1.0
    input_CN = np.zeros((channels, latency), np.float32)  # with the silence that comes out first
    for move, value in script * 2:
        if move == "play":
            block_CN = noise_CN(seed + frame, channels, value)
            input_CN = np.concatenate([input_CN, block_CN], axis=1)
            there_N = server.there_from(frame - latency, value)
            stems, delayed_CN = player.process(block_CN, position, playing)
            np.testing.assert_array_equal(delayed_CN, input_CN[:, frame : frame + value])
            np.testing.assert_allclose(stems.sum(axis=0, dtype=np.float64), delayed_CN, rtol=0, atol=1e-7)
            if value:
                gain_before = check_gains(stems[:SEPARATED], frame - latency, there_N, gain_before, channels)
            frame += value
            position += value if playing else 0
            server.drain()
        elif move == "jump":
            position = value
        elif move == "turn":
            playing = not playing
        elif move == "answer all":
            while server.waiting:
                server.answer(0)
        elif server.waiting and move == "answer":
            server.answer(value % len(server.waiting))
        elif server.waiting and move == "drop":
            server.waiting.pop(value % len(server.waiting))
    heard_CN = [audio_CN for _, audio_CN in server.heard]
    if heard_CN:
        np.testing.assert_array_equal(np.concatenate(heard_CN, axis=1), input_CN[:, latency:])
    assert player.input.lost_frames == 0


def check_gains(stems, first: int, there_N, gain_before: float, channels: int) -> float:
    """All stems share one gain, which moves by a step of the fade a frame and is 0 where stems are missing."""
    frames = there_N.size
    silent = max(0, min(frames, -first))  # before the first frame there is nothing to hear a gain by
    assert not stems[:, :, :silent].any()
    if silent == frames:
        return np.nan
    true = stems_SCN(first + silent, channels, frames - silent)
    gain_N = (stems[0, 0, silent:] / true[0, 0]).astype(np.float64)
    np.testing.assert_allclose(stems[:, :, silent:], gain_N * true, rtol=0, atol=1e-6)
    assert (gain_N >= 0).all()
    assert (gain_N <= 1).all()
    assert not gain_N[~there_N[silent:]].any()
    if silent == 0 and not np.isnan(gain_before):
        gain_N = np.concatenate([[gain_before], gain_N])
    assert (np.abs(np.diff(gain_N)) <= 1 / 256 + 1e-6).all()
    return gain_N[-1]


@settings(max_examples=40, deadline=None)
@given(
    blocks=st.lists(st.integers(1, 700), min_size=5, max_size=40),
    jumps=st.sets(st.integers(0, 39), max_size=6),
    latency=st.integers(1100, 3000),
    channels=st.integers(1, 2),
)
def test_stems_in_time_play_to_the_last_bit_and_without_a_late_frame(engine, blocks, jumps, latency, channels):
    player = engine.LivePlayer(channels, 700, latency, RATE)
    server = Server(player, channels)
    position, frame = 0, 0
    for index, block in enumerate(blocks):
        position = position + 5000 if index in jumps else position
        stems, _ = player.process(noise_CN(index, channels, block), position, True)
        expected = np.zeros((SEPARATED, channels, block), np.float32)
        silent = max(0, min(block, latency - frame))
        expected[..., silent:] = stems_SCN(frame - latency + silent, channels, block - silent)
        np.testing.assert_array_equal(stems[:SEPARATED], expected)
        frame, position = frame + block, position + block
        server.drain()
        while server.waiting:
            server.answer(len(server.waiting) - 1)
    assert player.late_frames == 0
    assert player.jumps == len([jump for jump in jumps if 0 < jump < len(blocks)])


@settings(max_examples=40, deadline=None)
@given(
    host_block=st.sampled_from([1, 17, 64, 512, 2048]),
    chunk=st.sampled_from([128, 512, 1000]),
    context=st.integers(200, 3000),
    data=st.data(),
)
def test_the_planned_latency_is_enough_for_any_blocks_of_the_host(engine, host_block, chunk, context, data):
    """The server's stems of p are there when the chunk with p + context - 1 was sent; chunks are sent whole."""
    total = engine.total_latency(context + chunk - 1, RATE, host_block, 0.0)
    assert engine.plan_latency(total / RATE, RATE, host_block, 0.0).ask_server == context + chunk - 1 or total == 512
    player = engine.LivePlayer(1, host_block, total, RATE)
    came = placed = 0
    while came < total + 4 * chunk and came < 60 * host_block:
        block = data.draw(st.integers(1, host_block)) if came < 2 * chunk else host_block
        player.process(np.zeros((1, block), np.float32), came, True)
        came += block
        done = came // chunk * chunk - context + 1
        if done > placed:
            player.timeline.write(placed, stems_SCN(placed, 1, done - placed))
            placed = done
    assert player.late_frames == 0
    assert player.stem_gain == 1


@settings(max_examples=40, deadline=None)
@given(
    capacity=st.integers(1, 300),
    writes=st.lists(st.tuples(st.integers(-50, 500), st.integers(1, 200), st.integers(0, 60)), max_size=40),
)
def test_a_timeline_holds_what_fits_and_says_what_it_did_not_take(engine, capacity, writes):
    timeline = engine.StemTimeline(capacity, 1)
    there, played = set(), 0
    for frame, frames, step in writes:
        written = timeline.write(played + frame, stems_SCN(played + frame, 1, frames))
        wanted = range(played + frame, played + frame + frames)
        fitting = {at for at in wanted if played <= at < played + capacity}
        assert written.placed == len(fitting - there)
        assert written.repeated == len(fitting & there)
        assert written.late == sum(at < played for at in wanted)
        assert written.refused == sum(at >= played + capacity for at in wanted)
        there |= fitting
        out, absent = timeline.read(played, capacity)
        is_there_N = np.array([played + i in there for i in range(capacity)])
        np.testing.assert_array_equal(out, np.where(is_there_N, stems_SCN(played, 1, capacity), 0))
        assert absent == np.count_nonzero(~is_there_N)
        played += step
        timeline.played(played)


@settings(max_examples=40, deadline=None)
@given(
    capacity=st.integers(1, 600),
    steps=st.lists(st.tuples(st.integers(0, 400), st.booleans(), st.booleans()), min_size=1, max_size=40),
)
def test_a_full_input_stream_loses_frames_and_no_place(engine, capacity, steps):
    stream = engine.InputStream(capacity, 1)
    all_N = noise_CN(1, 1, 400 * len(steps))
    position_of, position, read = {}, 0, 0
    for frames, jump, drain in steps:
        if jump:
            position += 10_000
            stream.begin_segment(position, True)
        first = stream.frames_written
        position_of.update({first + i: position + i for i in range(frames)})
        lost = stream.lost_frames
        assert stream.write(all_N[:, first : first + frames]) == (stream.lost_frames == lost)
        position += frames
        while drain and (run := stream.read(97)) is not None:
            segment, frame, audio_CN = run
            assert segment.position + frame - segment.first_frame == position_of[frame]
            np.testing.assert_array_equal(audio_CN, all_N[:, frame : frame + audio_CN.shape[1]])
            read += audio_CN.shape[1]
    while (run := stream.read(1000)) is not None:
        read += run[2].shape[1]
    assert read == stream.frames_written - stream.lost_frames


@given(
    gains_db=st.lists(st.floats(-60, 12, width=32), min_size=7, max_size=7),
    solos=st.lists(st.booleans(), min_size=7, max_size=7),
    mutes=st.lists(st.booleans(), min_size=7, max_size=7),
    source=st.integers(-1, 6),
)
def test_main_is_the_mix_that_faders_solos_and_mutes_ask_for(engine, gains_db, solos, mutes, source):
    stems = noise_CN(2, 14, 100).reshape(7, 2, 100)
    linear_S = np.where(np.array(gains_db) <= -60, 0, 10 ** (np.array(gains_db) / 20))
    heard_S = linear_S * ~np.array(mutes) * (np.array(solos) if any(solos) else True)
    expected_CN = np.tensordot(heard_S, stems, 1) if source < 0 else stems[source]
    main_CN = engine.Mixer(RATE, 2).process(stems, engine.fold(gains_db, solos, mutes, source))
    np.testing.assert_allclose(main_CN, expected_CN, rtol=0, atol=1e-5)


def test_unity_gains_null_against_the_delayed_input(engine):
    player, mixer = engine.LivePlayer(2, 64, 600, RATE), engine.Mixer(RATE, 2)
    server = Server(player, 2)
    for index in range(60):
        stems, delayed_CN = player.process(noise_CN(index, 2, 64), 64 * index, True)
        np.testing.assert_allclose(mixer.process(stems, engine.MixTargets()), delayed_CN, rtol=0, atol=2e-7)
        server.drain()
        while server.waiting:
            server.answer(0) if index % 20 < 15 else server.waiting.pop()
    assert player.late_frames > 0


def test_stems_are_named_in_the_order_of_the_buses(engine):
    assert engine.STEMS == ("drums", "bass", "guitar", "piano", "vocals", "other", "residual")
