"""`live` without a sound card: real time, a real server, and every sample where it belongs."""

import asyncio
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from cli_tools import Home, noise, read, song
from stems.v1 import audio_pb2, live_pb2

from pyserver.cli.exits import Exit
from pyserver.cli.live_stream import LiveClient, LiveSettings, Timeline
from pyserver.service.channel import Connection


@pytest.fixture
def home(tiny_model_dir: Path, tmp_path: Path) -> Home:
    return Home(tmp_path / "home", tiny_model_dir)


def missing_ms(errors: str) -> int:
    found = re.search(r"missing: (\d+) ms", errors)
    return int(found[1]) if found else 0


@pytest.mark.parametrize(("rate", "channels"), [(44100, 2), (48000, 1)])
def test_all_stems_together_are_the_input_one_latency_later(
    home: Home, tmp_path: Path, rate: int, channels: int
) -> None:
    source = song(tmp_path / "a.wav", noise(2.01, rate, channels), rate)
    played = tmp_path / "played.wav"
    # Room for a machine that is busy with other tests.
    result = home.run("live", "--cpu", "--null", source, "--record", played, "--latency", 3, "--steps", 0)
    assert result.returncode == Exit.OK, result.stderr
    audio, out = read(source)[0], read(played)[0]
    latency = len(out) - len(audio)
    assert latency > 0
    assert f"{latency / rate * 1000:.0f} ms later" in result.stderr
    assert not out[:latency].any()
    wrong = (np.abs(out[latency:] - audio) > 1e-4).any(axis=1)
    # Every sample is right, or is silence that was reported.
    assert not out[latency:][wrong].any()
    assert wrong.sum() / rate * 1000 <= missing_ms(result.stderr) + 1


def test_silence_stays_silence(home: Home, tmp_path: Path) -> None:
    played = tmp_path / "played.wav"
    result = home.run("live", "--cpu", "--null", "silence", "--seconds", 1, "--record", played, "--stems", "bass")
    assert result.returncode == Exit.OK, result.stderr
    assert "bass" in result.stderr
    assert not read(played)[0].any()


def test_interrupted_session_ends_well(home: Home, tmp_path: Path) -> None:
    with home.server():
        process = home.start("live", "--null", "silence", "--seconds", 60)
        assert process.stderr is not None
        assert "live on" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == Exit.OK
    assert "Traceback" not in errors


def test_lost_server_is_told(home: Home) -> None:
    with home.server() as server:
        process = home.start("live", "--null", "silence", "--seconds", 60)
        assert process.stderr is not None
        assert "live on" in process.stderr.readline()
        server.kill()
        _, errors = process.communicate(timeout=60)
    assert process.returncode == Exit.SERVER_UNREACHABLE
    assert "cannot reach" in errors


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--null", "no.wav"), Exit.FILE_NOT_FOUND, "no.wav does not exist"),
        (("--null", "silence"), Exit.USAGE, "--seconds"),
        (("--null", "silence", "--seconds", "1", "--stems", "kazoo"), Exit.STEM_UNKNOWN, "kazoo"),
        (("--null", "silence", "--seconds", "1", "--latency", "0.001"), Exit.LATENCY_NOT_POSSIBLE, "latency"),
    ],
)
def test_what_cannot_be_done_is_told(home: Home, arguments: tuple[str, ...], code: Exit, words: str) -> None:
    result = home.run("live", "--cpu", *arguments)
    assert result.returncode == code, result.stderr
    assert words in result.stderr


def test_sound_card_is_listed_or_explained(home: Home) -> None:
    result = home.run("live", "--list-devices")
    assert result.returncode in (Exit.OK, Exit.NO_SOUND_DEVICE)
    if result.returncode:
        assert "libportaudio2" in result.stderr


SETTINGS = LiveSettings(
    model="", sample_rate_hz=100, channels=1, block_samples=10, stems=(), steps=None, seed=0, max_latency_s=None
)


class Slow:
    """A server that reads two blocks and waits until its client jumps; then it answers these, and reads on."""

    def __init__(self) -> None:
        self.read: list[live_pb2.LiveRequest] = []
        self.has_two, self.jumped = asyncio.Event(), asyncio.Event()
        self.live = self

    async def Separate(self, requests: AsyncIterator[live_pb2.LiveRequest]) -> AsyncIterator[live_pb2.LiveResponse]:
        await anext(requests)
        ready = live_pb2.LiveReady(stems=["bass"], latency_samples=10, hop_samples=10, max_in_flight_blocks=2)
        yield live_pb2.LiveResponse(ready=ready)
        before = [await anext(requests) for _ in range(2)]
        self.has_two.set()
        while (await anext(requests)).WhichOneof("kind") != "flush":
            pass
        self.jumped.set()
        self.read.append(await anext(requests))
        for block in before:
            stem = audio_pb2.StemBlock(stem_index=0, block=block.audio)
            yield live_pb2.LiveResponse(audio=live_pb2.LiveAudio(stems=[stem], epoch=0, consumed_samples=30))
        async for request in requests:
            self.read.append(request)


async def test_stems_from_before_a_jump_are_played_and_do_not_stop_the_stream() -> None:
    server = Slow()
    client = LiveClient(cast(Connection, server), SETTINGS)
    running = asyncio.create_task(client.run())
    await client.ready
    ones_NC = np.ones((10, 1), np.float32)
    async with asyncio.timeout(10):
        for count, until in ((2, server.has_two), (40, server.jumped), (1, None)):
            for _ in range(count):
                client.exchange(ones_NC)
            if until is not None:
                await until.wait()
        client.finish()
        await running
    assert [request.audio.start_sample for request in server.read] == [410, 420]


class Late:
    """A server that drops everything: in turn two blocks read, and word that there will be no stems of them."""

    def __init__(self) -> None:
        self.read = 0
        self.live = self

    async def Separate(self, requests: AsyncIterator[live_pb2.LiveRequest]) -> AsyncIterator[live_pb2.LiveResponse]:
        await anext(requests)
        ready = live_pb2.LiveReady(stems=["bass"], latency_samples=10, hop_samples=10, max_in_flight_blocks=2)
        yield live_pb2.LiveResponse(ready=ready)
        async for request in requests:
            self.read += 1
            if self.read % 2 == 0:
                dropped = live_pb2.LiveNotice(
                    kind=live_pb2.LiveNotice.KIND_DROPPED, start_sample=request.audio.start_sample - 10, num_samples=20
                )
                yield live_pb2.LiveResponse(notice=dropped)


async def test_a_client_whose_stems_are_dropped_sends_on() -> None:
    server = Late()
    client = LiveClient(cast(Connection, server), SETTINGS)
    running = asyncio.create_task(client.run())
    await client.ready
    async with asyncio.timeout(10):
        for _ in range(12):
            client.exchange(np.ones((10, 1), np.float32))
        client.finish()
        await running
    assert server.read == 12
    assert len(client.notices) == 6


def test_timeline_gives_each_position_its_own_samples() -> None:
    timeline = Timeline(100, 1)
    audio = np.arange(1, 301, dtype=np.float32)[:, None]
    taken = []
    for start in range(-20, 280, 10):
        if start + 20 < 300:
            timeline.put(start + 20, audio[start + 20 : start + 30])
        out, missing = timeline.take(start, 10)
        assert missing == 0
        taken.append(out)
    np.testing.assert_array_equal(np.concatenate(taken)[20:], audio[:280])


def test_timeline_counts_what_is_missing_and_drops_what_is_late() -> None:
    timeline = Timeline(100, 1)
    ones = np.ones((10, 1), np.float32)
    out, missing = timeline.take(0, 20)
    assert missing == 20
    assert not out.any()
    assert timeline.put(15, ones) == 5
    out, missing = timeline.take(20, 10)
    assert missing == 5
    assert out[:, 0].tolist() == [1] * 5 + [0] * 5
