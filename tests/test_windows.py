"""Windows and their overlap-add: every sample is covered, exactly once in sum, wherever one stops and goes on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyserver.separation.overlap import OverlapAdd
from pyserver.separation.windows import Window, WindowShape, fade_in, plan, window_count

margins, fades, bodies = st.integers(0, 40), st.integers(0, 30), st.integers(1, 50)
shapes = st.builds(
    lambda margin, fade, body: WindowShape(body + 2 * (margin + fade), margin, fade), margins, fades, bodies
)
lengths = st.integers(0, 400)


def kept_of(song_CN, window: Window, stems: int = 2):
    """The kept part of a window of a song with zeros around it; stem s is the song times s + 1."""
    out = np.zeros((stems, song_CN.shape[0], window.shape.kept), np.float32)
    low, high = max(window.keep_start, 0), min(window.keep_stop, song_CN.shape[1])
    for stem in range(stems):
        if low < high:
            out[stem, :, low - window.keep_start : high - window.keep_start] = song_CN[:, low:high] * (stem + 1)
    return out


@given(shapes, lengths)
def test_every_sample_lies_in_the_full_weight_of_one_window_or_in_two_fades(shape, length):
    weight = np.zeros(length + 2 * shape.length)
    for window in plan(shape, length):
        ramp = np.ones(shape.kept)
        if shape.fade:
            ramp[: shape.fade] = fade_in(shape.fade)
            ramp[-shape.fade :] = 1 - fade_in(shape.fade)
        at = window.keep_start + shape.length
        weight[at : at + shape.kept] += ramp
    song = weight[shape.length : shape.length + length]
    np.testing.assert_allclose(song, 1, atol=1e-7)


@given(shapes, st.integers(1, 400))
def test_no_window_is_planned_that_gives_nothing(shape, length):
    last = list(plan(shape, length))[-1]
    assert last.keep_start < length
    assert last.index == window_count(shape, length) - 1


@given(shapes, lengths)
def test_a_constant_comes_back_as_it_was(shape, length):
    overlap = OverlapAdd(shape, length)
    position = 0
    for window in plan(shape, length):
        start, run = overlap.push(window, np.full((1, 2, shape.kept), 0.75, np.float32))
        assert start == position
        np.testing.assert_allclose(run, 0.75, rtol=0, atol=1e-7)
        position += run.shape[-1]
    assert position == length


@settings(deadline=None)
@given(shapes, lengths, st.data())
def test_stopping_and_going_on_anywhere_gives_the_same_bits(shape, length, data):
    song = np.random.default_rng(length).standard_normal((2, length)).astype(np.float32)

    def bounce(stops):
        parts, overlap = [], OverlapAdd(shape, length)
        for window in plan(shape, length):
            if window.index in stops:
                overlap = OverlapAdd(shape, length, overlap.tail_SCF)
            parts.append(overlap.push(window, kept_of(song, window))[1])
        return np.concatenate(parts, axis=-1) if parts else np.zeros((2, 2, 0), np.float32)

    whole = bounce(())
    count = window_count(shape, length)
    stops = data.draw(st.sets(st.integers(1, max(count - 1, 1))))
    assert whole.shape == (2, 2, length)
    assert whole.tobytes() == bounce(stops).tobytes()
    np.testing.assert_allclose(whole[1], song * 2, atol=2e-6)


def test_a_shape_keeps_its_proportions_at_another_rate():
    shape = WindowShape(441000, 22050, 4410).at_rate(44100, 48000)
    assert (shape.length, shape.margin, shape.fade) == (480000, 24000, 4800)


def test_windows_without_a_body_are_refused():
    with pytest.raises(ValueError, match="no window of 100 samples"):
        WindowShape(100, 30, 20)


def test_windows_out_of_order_are_a_programming_error():
    shape = WindowShape(100, 10, 10)
    with pytest.raises(AssertionError, match="does not follow"):
        OverlapAdd(shape, 1000).push(Window(1, shape), np.zeros((1, 1, shape.kept), np.float32))
