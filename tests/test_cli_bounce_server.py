"""`bounce` and its server: started and stopped, killed, shut down, interrupted, with a full disk. Real processes."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_tools import OUTPUTS, Home, noise, require_whole, song, stop, wait_until
from stems.v1 import audio_pb2, bounce_pb2

from pyserver.cli.exits import Exit
from pyserver.service import channel


@pytest.fixture(scope="module")
def home(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A user whose server is running."""
    user = Home(tmp_path_factory.mktemp("user") / "home", tiny_model_dir)
    with user.server():
        yield user


@pytest.fixture
def lone_home(tiny_model_dir: Path, tmp_path: Path) -> Home:
    """A user without a server."""
    return Home(tmp_path / "home", tiny_model_dir)


def test_own_server_is_started_and_stopped(lone_home: Home, tmp_path: Path) -> None:
    source = song(tmp_path / "a.wav")
    result = lone_home.run("bounce", source, "-o", tmp_path / "out", "--cpu")
    assert result.returncode == Exit.OK, result.stderr
    require_whole(source, tmp_path / "out" / "a")
    assert not (lone_home.path / "run" / "server.json").exists()


def test_own_server_that_cannot_start_says_why(lone_home: Home, tmp_path: Path) -> None:
    result = lone_home.run("bounce", song(tmp_path / "a.wav"), "-o", tmp_path / "out", "--gpu", 7)
    assert result.returncode == Exit.GPU_NOT_AVAILABLE
    assert "--cpu" in result.stderr


def long_song(path: Path) -> Path:
    """Much to compute, little to store: most of the work of a model is at its own rate."""
    return song(path, noise(40, 8000, 1), 8000)


def jobs(home: Home) -> list[dict[str, object]]:
    found = []
    for path in (home.path / "state" / "jobs").glob("*/job.json"):
        try:
            found.append(json.loads(path.read_text()))
        except (OSError, ValueError):
            continue
    return found


def done_samples(home: Home, state: str = "RUNNING") -> int:
    return max((int(str(job["done_samples"])) for job in jobs(home) if job["state"] == state), default=0)


def succeeded(home: Home) -> int:
    return sum(job["state"] == "SUCCEEDED" for job in jobs(home))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_bounce_cancels_its_job_and_leaves_nothing(home: Home, tmp_path: Path, number: int) -> None:
    source = long_song(tmp_path / f"{number}.wav")
    process = home.start("bounce", source, "-o", tmp_path / "out", "--seed", int(number))
    wait_until(lambda: done_samples(home) > 0)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == Exit.CANCELLED
    assert "cancelled" in errors
    assert not (tmp_path / "out").exists()
    assert done_samples(home) == 0
    assert done_samples(home, "CANCELLED") > 0


def test_killed_server_is_told_at_once_and_the_same_command_goes_on(lone_home: Home, tmp_path: Path) -> None:
    source = long_song(tmp_path / "a.wav")
    with lone_home.server():
        assert lone_home.run("bounce", source, "-o", tmp_path / "undisturbed").returncode == Exit.OK
    with lone_home.server() as server:
        process = lone_home.start("bounce", source, "-o", tmp_path / "out")
        wait_until(lambda: done_samples(lone_home) > 0)
        server.kill()
        killed = time.monotonic()
        _, errors = process.communicate(timeout=60)
        assert time.monotonic() - killed < channel.PING_S, "it was noticed by pings only"
        assert process.returncode == Exit.SERVER_UNREACHABLE
        assert "run the same command again" in errors
        assert not (tmp_path / "out").exists()
    done = done_samples(lone_home)
    assert done > 0
    process = lone_home.start("bounce", source, "-o", tmp_path / "out", "--cpu")
    while process.poll() is None:
        assert all(int(str(job["done_samples"])) >= done for job in jobs(lone_home))
        time.sleep(0.05)
    stop(process)
    assert process.returncode == Exit.OK
    for stem in OUTPUTS:
        same = [(tmp_path / place / "a" / f"{stem}.wav").read_bytes() for place in ("out", "undisturbed")]
        assert same[0] == same[1]


def test_server_that_is_shut_down_is_replaced(lone_home: Home, tmp_path: Path) -> None:
    source = long_song(tmp_path / "a.wav")
    with lone_home.server() as server:
        process = lone_home.start("bounce", source, "-o", tmp_path / "out", "--cpu")
        wait_until(lambda: done_samples(lone_home) > 0)
        stop(server)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == Exit.OK, errors
    assert "going on with another one" in errors
    require_whole(source, tmp_path / "out" / "a")


def test_two_bounces_without_a_server_share_one(lone_home: Home, tmp_path: Path) -> None:
    sources = [song(tmp_path / name, noise(1)) for name in ("a.wav", "b.wav")]
    both = [lone_home.start("bounce", source, "-o", tmp_path / "out", "--cpu") for source in sources]
    results = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [Exit.OK, Exit.OK], results
    for source in sources:
        require_whole(source, tmp_path / "out" / source.stem)
    assert not (lone_home.path / "run" / "server.json").exists()


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small tmpfs needs root")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_full_disk_is_told_and_leaves_nothing_and_the_work_is_kept(home: Home, tmp_path: Path, tiny_disk: Path) -> None:
    source, before = song(tmp_path / "a.wav", noise(2)), succeeded(home)
    result = home.run("bounce", source, "-o", tiny_disk)
    assert result.returncode == Exit.DISK_FULL
    assert "no space left" in result.stderr
    assert not [path for path in tiny_disk.rglob("*") if path.is_file()]
    assert succeeded(home) == before + 1
    subprocess.run(["mount", "-o", "remount,size=16m", str(tiny_disk)], check=True)
    assert home.run("bounce", source, "-o", tiny_disk).returncode == Exit.OK
    require_whole(source, tiny_disk / "a")
    assert succeeded(home) == before


def test_full_disk_of_the_server_is_told(lone_home: Home, tmp_path: Path, tiny_disk: Path) -> None:
    user = Home(tiny_disk / "home", lone_home.models)
    result = user.run("bounce", song(tmp_path / "a.wav", noise(2)), "-o", tmp_path / "out", "--cpu")
    assert result.returncode == Exit.DISK_FULL, result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_quiet_stream_is_not_closed_for_its_pings(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model may need minutes for a window; gRPC's server counts the pings meanwhile and hangs up on too many."""
    for name, value in home.environment.items():
        monkeypatch.setenv(name, value)

    async def watch_in_silence() -> None:
        async with await channel.connect() as connection:
            audio = audio_pb2.AudioSpec(sample_rate_hz=44100, channels=2)
            request = bounce_pb2.CreateJobRequest(request_id="quiet", audio=audio, num_samples=1000)
            job = await connection.bounce.CreateJob(request)
            events = connection.bounce.WatchJob(bounce_pb2.WatchJobRequest(job_id=job.job_id))
            await events.read()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(events.read(), 4.5 * channel.PING_S)
                raise AssertionError("the stream ended")
            await connection.bounce.DeleteJob(bounce_pb2.DeleteJobRequest(job_id=job.job_id))

    asyncio.run(watch_in_silence())
