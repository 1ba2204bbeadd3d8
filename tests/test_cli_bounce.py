"""`bounce` as a user meets it: real processes, a real server, an untrained model. Every bad input has its own words."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from cli_tools import OUTPUTS, Home, copy_models, noise, read, song, stop, wait_until
from stems.v1 import audio_pb2, bounce_pb2

from pyserver.cli.exits import Exit
from pyserver.service import channel


@pytest.fixture(scope="module")
def home(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A user whose server is running."""
    root = tmp_path_factory.mktemp("user")
    models = copy_models(tiny_model_dir, root / "models")
    damaged = models / "damaged"
    copy_models(models / "tiny-two", damaged)
    card = (damaged / "card.json").read_text().replace("tiny-two", "damaged")
    (damaged / "card.json").write_text(card)
    weights = damaged / "model.safetensors"
    raw = bytearray(weights.read_bytes())
    raw[-1] ^= 0xFF
    weights.write_bytes(raw)
    user = Home(root / "home", models)
    with user.server():
        yield user


@pytest.fixture
def lone_home(tiny_model_dir: Path, tmp_path: Path) -> Home:
    """A user without a server."""
    return Home(tmp_path / "home", tiny_model_dir)


def outputs(directory: Path) -> set[str]:
    return {path.stem for path in directory.iterdir()}


def require_whole(source: Path, directory: Path) -> None:
    """The promise of `bounce`: same rate, length and channels; stems and residual sum to the song."""
    audio, rate = read(source)
    total = np.zeros_like(audio)
    assert outputs(directory) == OUTPUTS
    for path in directory.iterdir():
        stem, stem_rate = read(path)
        assert stem.shape == audio.shape
        assert stem_rate == rate
        total += stem
    assert np.abs(total - audio).max() <= 1e-6


def test_stems_and_residual_sum_to_the_song(home: Home, tmp_path: Path) -> None:
    source = song(tmp_path / "a.wav")
    result = home.run("bounce", source, "-o", tmp_path / "out")
    assert result.returncode == Exit.OK, result.stderr
    assert sorted(result.stdout.split()) == sorted(str(tmp_path / "out/a" / f"{stem}.wav") for stem in OUTPUTS)
    require_whole(source, tmp_path / "out" / "a")


GOOD = {
    "8 kHz": lambda path: song(path, noise(1, 8000), 8000),
    "192 kHz": lambda path: song(path, noise(0.5, 192_000), 192_000),
    "mono": lambda path: song(path, noise(1, channels=1)),
    "6 channels": lambda path: song(path, noise(1, channels=6)),
    "24 bit": lambda path: song(path, subtype="PCM_24"),
    "flac": lambda path: song(path.with_suffix(".flac"), subtype="PCM_16"),
    "one sample": lambda path: song(path, noise(1)[:1]),
    "over full scale": lambda path: song(path, noise(0.5) * 40),
}


@pytest.mark.parametrize("kind", GOOD)
def test_every_kind_of_audio_is_separated(home: Home, tmp_path: Path, kind: str) -> None:
    source = GOOD[kind](tmp_path / "a.wav")
    result = home.run("bounce", source, "-o", tmp_path / "out")
    assert result.returncode == Exit.OK, result.stderr
    require_whole(source, tmp_path / "out" / "a")


def test_silence_gives_silent_stems(home: Home, tmp_path: Path) -> None:
    source = song(tmp_path / "a.wav", np.zeros((22050, 2), np.float32))
    assert home.run("bounce", source, "-o", tmp_path / "out").returncode == Exit.OK
    assert all(not read(path)[0].any() for path in (tmp_path / "out" / "a").iterdir())


def nothing(path: Path) -> Path:
    return path


def folder_without_audio(path: Path) -> Path:
    (path.parent / "folder").mkdir()
    (path.parent / "folder" / "readme.txt").write_text("hello")
    return path.parent / "folder"


def zero_bytes(path: Path) -> Path:
    path.touch()
    return path


def zero_samples(path: Path) -> Path:
    return song(path, np.zeros((0, 2), np.float32))


def truncated_flac(path: Path) -> Path:
    source = song(path.with_suffix(".flac"), subtype="PCM_16")
    source.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    return source


def text(path: Path) -> Path:
    path.write_text("hello " * 100)
    return path


def with_value(value: float) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        audio = noise(1)
        audio[1234, 1] = value
        return song(path, audio)

    return make


BAD: dict[str, tuple[Callable[[Path], Path], Exit, str]] = {
    "missing": (nothing, Exit.FILE_NOT_FOUND, "does not exist"),
    "folder without audio": (folder_without_audio, Exit.NO_AUDIO_FOUND, "contains no audio files"),
    "zero bytes": (zero_bytes, Exit.EMPTY_AUDIO, "is an empty file"),
    "zero samples": (zero_samples, Exit.EMPTY_AUDIO, "contains no audio"),
    "truncated flac": (truncated_flac, Exit.TRUNCATED_AUDIO, "breaks off"),
    "NaN": (with_value(np.nan), Exit.NON_FINITE_AUDIO, "NaN at sample 1234"),
    "Inf": (with_value(np.inf), Exit.NON_FINITE_AUDIO, "Inf at sample 1234"),
    "text": (text, Exit.UNSUPPORTED_AUDIO, "is not audio"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_has_its_own_words_and_code_and_harms_no_other_song(home: Home, tmp_path: Path, kind: str) -> None:
    make, code, words = BAD[kind]
    bad, good = make(tmp_path / "bad.wav"), song(tmp_path / "good.wav")
    result = home.run("bounce", bad, good, "-o", tmp_path / "out")
    assert result.returncode == code
    assert words in result.stderr
    assert str(bad) in result.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good"]
    require_whole(good, tmp_path / "out" / "good")


def test_wrong_model_name_suggests_the_nearest(home: Home, tmp_path: Path) -> None:
    result = home.run("bounce", song(tmp_path / "a.wav"), "-o", tmp_path / "out", "--model", "tiny-tow")
    assert result.returncode == Exit.UNKNOWN_MODEL
    assert 'did you mean "tiny-two"?' in result.stderr


def test_model_not_downloaded_names_the_command(home: Home, tmp_path: Path) -> None:
    result = home.run("bounce", song(tmp_path / "a.wav"), "-o", tmp_path / "out", "--model", "dicose-unet")
    assert result.returncode == Exit.MODEL_NOT_DOWNLOADED
    assert "models pull dicose-unet" in result.stderr


def test_wrong_checksum_is_refused(home: Home, tmp_path: Path) -> None:
    result = home.run("bounce", song(tmp_path / "a.wav"), "-o", tmp_path / "out", "--model", "damaged")
    assert result.returncode == Exit.WRONG_CHECKSUM
    assert "model.safetensors" in result.stderr
    assert not (tmp_path / "out").exists()


def test_unknown_stem_names_the_known_ones(home: Home, tmp_path: Path) -> None:
    result = home.run("bounce", song(tmp_path / "a.wav"), "-o", tmp_path / "out", "--stems", "bass,kazoo")
    assert result.returncode == Exit.STEM_UNKNOWN
    assert "kazoo" in result.stderr
    assert "guitar" in result.stderr


def test_wrong_token_is_told_before_anything_is_sent(home: Home, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("not-the-token\n")
    token.chmod(0o600)
    record = json.loads((home.path / "run" / "server.json").read_text())
    given = ("--server", record["address"], "--token-file", token)
    result = home.run("bounce", song(tmp_path / "a.wav"), "-o", tmp_path / "out", *given)
    assert result.returncode == Exit.UNTRUSTED_SERVER
    assert "token" in result.stderr


def test_chosen_stems_and_the_rest_sum_to_the_song(home: Home, tmp_path: Path) -> None:
    source = song(tmp_path / "a.wav")
    assert home.run("bounce", source, "-o", tmp_path / "out", "--stems", "drums,bass").returncode == Exit.OK
    assert outputs(tmp_path / "out" / "a") == {"bass", "drums", "residual"}
    total = sum(read(path)[0] for path in (tmp_path / "out" / "a").iterdir())
    assert np.abs(total - read(source)[0]).max() <= 1e-6


def test_flac_is_written_and_refused_where_it_would_clip(home: Home, tmp_path: Path) -> None:
    quiet, loud = song(tmp_path / "quiet.wav"), song(tmp_path / "loud.wav", noise(0.5) * 100)
    result = home.run("bounce", quiet, loud, "-o", tmp_path / "out", "--format", "flac")
    assert result.returncode == Exit.OVER_FULL_SCALE
    assert "--format wav" in result.stderr
    assert outputs(tmp_path / "out" / "quiet") == OUTPUTS
    assert not (tmp_path / "out" / "loud").exists()


def test_folder_keeps_its_structure_and_stems_are_no_songs(home: Home, tmp_path: Path) -> None:
    album = tmp_path / "album"
    for name in ("one.wav", "cd2/two.wav", ".trash/three.wav"):
        song(album / name, noise(0.2))
    for _ in range(2):
        result = home.run("bounce", album, "-o", album / "stems", "--overwrite")
        assert result.returncode == Exit.OK, result.stderr
        assert len(result.stdout.splitlines()) == 12
    assert outputs(album / "stems" / "cd2" / "two") == OUTPUTS
    assert outputs(album / "stems" / "one") == OUTPUTS


def test_songs_of_one_name_are_refused_before_work(home: Home, tmp_path: Path) -> None:
    one, two = song(tmp_path / "a.wav"), song(tmp_path / "x" / "a.wav")
    result = home.run("bounce", one, two, "-o", tmp_path / "out")
    assert result.returncode != Exit.OK
    assert "would both be written" in result.stderr
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten_unless_told(home: Home, tmp_path: Path) -> None:
    new, old = song(tmp_path / "new.wav"), song(tmp_path / "old.wav", noise(0.3))
    (tmp_path / "out" / "old").mkdir(parents=True)
    (tmp_path / "out" / "old" / "bass.wav").write_bytes(b"mine")
    result = home.run("bounce", new, old, "-o", tmp_path / "out")
    assert result.returncode == Exit.OUTPUT_EXISTS
    assert str(tmp_path / "out" / "old" / "bass.wav") in result.stderr
    assert not (tmp_path / "out" / "new").exists()
    assert home.run("bounce", new, old, "-o", tmp_path / "out", "--overwrite").returncode == Exit.OK
    require_whole(old, tmp_path / "out" / "old")
    third = song(tmp_path / "third.wav", noise(0.1))
    result = home.run("bounce", new, old, third, "-o", tmp_path / "out", "--skip-done")
    assert result.returncode == Exit.OK
    assert len(result.stdout.splitlines()) == 6


def test_seed_and_steps_decide_the_stems(home: Home, tmp_path: Path) -> None:
    source = song(tmp_path / "a.wav", noise(0.5))
    settings = {"a": ("--seed", 1), "b": ("--seed", 1), "c": ("--seed", 2), "d": ("--steps", 0)}
    stems = {}
    for name, extra in settings.items():
        assert home.run("bounce", source, "-o", tmp_path / name, *extra).returncode == Exit.OK
        stems[name] = (tmp_path / name / "a" / "bass.wav").read_bytes()
    assert stems["a"] == stems["b"]
    assert len(set(stems.values())) == 3


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
    _, errors = process.communicate(timeout=20)
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
        _, errors = process.communicate(timeout=20)
        assert time.monotonic() - killed < 5
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
