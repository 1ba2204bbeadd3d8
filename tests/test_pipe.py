"""Messages between processes: what arrives is what was sent, arrays included, and ends are told apart from messages."""

import asyncio
import os
import threading

import numpy as np
import pytest

from pyserver.engine.messages import WindowResult
from pyserver.engine.pipe import Pipe

SHAPES = ((5, 2, 6458), (5, 2, 0), (0,), (), (1, 2, 500_000))


@pytest.fixture
def ends() -> tuple[Pipe, Pipe]:
    return Pipe.pair()


@pytest.mark.parametrize("shape", SHAPES)
def test_an_array_arrives_whole(ends: tuple[Pipe, Pipe], shape: tuple[int, ...]) -> None:
    ours, theirs = ends
    sent = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    sender = threading.Thread(target=ours.send, args=(WindowResult(sent, 0.5, "here"),))
    sender.start()  # larger than the socket's buffer: it can only end while the other end reads
    received = theirs.recv()
    sender.join()
    assert (received.compute_s, received.computed_by) == (0.5, "here")
    assert received.stems_SCN.dtype == np.float32
    assert np.array_equal(received.stems_SCN, sent)
    received.stems_SCN[...] = 0  # it belongs to who received it


def test_arrays_of_any_layout_and_several_in_a_message(ends: tuple[Pipe, Pipe]) -> None:
    ours, theirs = ends
    whole = np.arange(24.0).reshape(2, 3, 4)
    sent = {"part": whole[:, ::2], "turned": whole.T, "none": None, "text": "x" * 100_000}
    sender = threading.Thread(target=lambda: [ours.send(sent), ours.send(sent)])
    sender.start()
    for _ in range(2):
        received = theirs.recv()
        assert np.array_equal(received["part"], whole[:, ::2])
        assert np.array_equal(received["turned"], whole.T)
        assert received["none"] is None
        assert received["text"] == sent["text"]
    sender.join()


def test_the_end_of_the_other_process_is_an_end_and_no_message(ends: tuple[Pipe, Pipe]) -> None:
    ours, theirs = ends
    theirs.close()
    with pytest.raises(EOFError):
        ours.recv()
    with pytest.raises(OSError, match=os.strerror(32)):
        ours.send("anyone?")


def echo(end: Pipe) -> None:
    """What comes goes back, until a None comes."""
    while (message := end.recv()) is not None:
        end.send(message)
    end.close()


@pytest.mark.asyncio
async def test_on_an_event_loop_messages_of_all_sizes_arrive_whole_and_in_order_and_sending_never_waits(
    ends: tuple[Pipe, Pipe],
) -> None:
    ours, theirs = ends
    heard, ended = asyncio.Queue[WindowResult](), asyncio.Event()
    pipe = await ours.on_loop(heard.put_nowait, ended.set)
    rng = np.random.default_rng(0)
    sent = [rng.standard_normal(shape).astype(np.float32) for shape in 20 * SHAPES]
    for number, stems in enumerate(sent):  # 80 MB, and nobody reads yet
        pipe.send(WindowResult(stems, number))
    other = threading.Thread(target=echo, args=(theirs,))
    other.start()
    for number, stems in enumerate(sent):
        received = await asyncio.wait_for(heard.get(), 20)
        assert received.compute_s == number
        assert np.array_equal(received.stems_SCN, stems)
        received.stems_SCN[...] = 0  # it belongs to who received it
    assert not ended.is_set()
    pipe.send(None)
    await asyncio.wait_for(ended.wait(), 5)
    other.join()


@pytest.mark.asyncio
async def test_on_an_event_loop_the_end_of_the_other_process_is_told_once_after_all_it_said(
    ends: tuple[Pipe, Pipe],
) -> None:
    ours, theirs = ends
    heard: list[object] = []
    ended = asyncio.Event()
    pipe = await ours.on_loop(heard.append, lambda: (heard.append("the end"), ended.set()))
    theirs.send("words")
    theirs.send(np.zeros(1000, np.float32))
    theirs.close()
    await asyncio.wait_for(ended.wait(), 5)
    assert heard[0] == "words"
    assert len(heard) == 3
    assert heard[2] == "the end"
    pipe.send("anyone?")  # nobody; and nothing is raised
