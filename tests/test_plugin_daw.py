"""The plugin's real binary in real hosts, with a real server and the shipped model: the stems of a bounce, in time."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from daw_support import RATE, ROOT, SECONDS, WHOLE_WINDOWS_S, assert_bounced, bounce, excerpt
from plugin_support import Audio, bundle, host_environment, read_buses, run_host, write_song
from service_support import RunningServer, running_server

FADE = 256  # at the end of a recorded region, from its stems to the track that goes on


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("daw")
    (folder / "no-other-models").mkdir()
    with running_server(folder / "home", folder / "no-other-models") as running:
        yield running


@pytest.fixture(scope="module")
def song_NC() -> Audio:
    return excerpt()


@pytest.fixture(scope="module")
def bounced(server: RunningServer, song_NC: Audio, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Audio]:
    return bounce(server, song_NC, RATE, tmp_path_factory.mktemp("bounced"))


def render(host: str, server: RunningServer, folder: Path, rate: int, *options: object) -> tuple[Path, int]:
    out = folder / f"{host}.wav"
    command = [sys.executable, str(ROOT / "tests" / "daw_scripts.py"), host, str(bundle())]
    command += [str(folder / "song.wav"), str(out), str(rate), *map(str, options)]
    done = subprocess.run(
        command, env=host_environment(server.home), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return out, int(done.stdout.split()[-1])


@pytest.mark.parametrize("block", [64, 512, 2048])
def test_dawdreamer_renders_the_stems_of_a_bounce(
    server: RunningServer, bounced: dict[str, Audio], song_NC: Audio, tmp_path: Path, block: int
) -> None:
    write_song(tmp_path / "song.wav", song_NC, RATE)
    seconds = SECONDS + WHOLE_WINDOWS_S + 0.1
    out, _ = render("dawdreamer", server, tmp_path, RATE, block, seconds, "Live latency=1.0")
    assert_bounced(read_buses(out), bounced, song_NC, round(WHOLE_WINDOWS_S * RATE))


@pytest.mark.parametrize(("rate", "block"), [(48000, 512), (96000, 2048), (44100, 1), (44100, 17)])
def test_dawdreamer_at_other_rates_and_in_the_smallest_blocks(
    server: RunningServer, song_NC: Audio, tmp_path: Path, rate: int, block: int
) -> None:
    short_NC = soxr.resample(song_NC[: 3 * RATE], RATE, rate)
    bounced = bounce(server, short_NC, rate, tmp_path)
    seconds = 3 + WHOLE_WINDOWS_S + 0.1
    out, _ = render("dawdreamer", server, tmp_path, rate, block, seconds, "Live latency=1.0")
    assert_bounced(read_buses(out), bounced, short_NC, round(WHOLE_WINDOWS_S * rate))


def test_a_mono_song_in_dawdreamer_and_on_a_mono_track(server: RunningServer, song_NC: Audio, tmp_path: Path) -> None:
    """DawDreamer knows no mono bus and plays a mono song on the left; the console host has a mono track."""
    left_NC = song_NC * np.float32([1, 0])
    (tmp_path / "left").mkdir()
    bounced = bounce(server, left_NC, RATE, tmp_path / "left")
    write_song(tmp_path / "song.wav", song_NC[:, :1], RATE)
    out, _ = render("dawdreamer", server, tmp_path, RATE, 512, SECONDS + WHOLE_WINDOWS_S + 0.1, "Live latency=1.0")
    assert_bounced(read_buses(out), bounced, left_NC, round(WHOLE_WINDOWS_S * RATE))

    (tmp_path / "mono").mkdir()
    bounced = bounce(server, song_NC[:, :1], RATE, tmp_path / "mono")
    frames = round((SECONDS + WHOLE_WINDOWS_S) * RATE)
    script = f"""
        load {bundle()}
        layout 1
        param Live latency = 12 s
        prepare {RATE} 512
        input song.wav
        offline on
        record on
        play 0 {frames} random:1:700
        write mono.wav
    """
    run_host(script, server.home, tmp_path)
    latency = round(WHOLE_WINDOWS_S * RATE)
    assert_bounced(read_buses(tmp_path / "mono.wav", channels=1), bounced, song_NC[:, :1], latency)


def test_pedalboard_compensates_the_latency(server: RunningServer, song_NC: Audio, tmp_path: Path) -> None:
    """pedalboard gives one bus, and takes the latency away itself."""
    write_song(tmp_path / "song.wav", song_NC, RATE)
    out, latency = render("pedalboard", server, tmp_path, RATE, 512, SECONDS + 3.5)
    assert latency == 3 * RATE
    main_NC = soundfile.read(out, dtype="float32", always_2d=True)[0]
    assert np.abs(main_NC[: len(song_NC)] - song_NC).max() < 1e-6


def test_captured_stems_are_those_of_a_bounce_here_and_in_another_host(
    server: RunningServer, bounced: dict[str, Audio], song_NC: Audio, tmp_path: Path
) -> None:
    write_song(tmp_path / "song.wav", song_NC, RATE)
    capture = f"""
        load direct
        param Mode = Captured
        prepare {RATE} 512
        input song.wav
        latency
        capture
        sleep 0.5
        play 0 {len(song_NC)} 512
        idle 4096 512
        settle 200
        offline on
        record on
        play 0 {len(song_NC)} random:3:900
        write here.wav
        save project.state
    """
    elsewhere = f"""
        load {bundle()}
        transfer project.state
        prepare {RATE} 512
        input song.wav
        show Mode
        offline on
        record on
        play 0 {len(song_NC)} 512
        write there.wav
    """
    said = run_host(capture, server.home, tmp_path)
    assert said["latency"] == 0
    assert said["problem"] == ""
    assert_bounced(read_buses(tmp_path / "here.wav"), bounced, song_NC, faded=FADE)

    assert run_host(elsewhere, server.home, tmp_path)["value"] == "Captured"
    assert_bounced(read_buses(tmp_path / "there.wav"), bounced, song_NC, faded=FADE)


def test_a_store_that_was_emptied_is_filled_again_where_the_source_is_left(
    server: RunningServer, bounced: dict[str, Audio], song_NC: Audio, tmp_path: Path
) -> None:
    write_song(tmp_path / "song.wav", song_NC, RATE)
    setting_up = f"load direct\nparam Mode = Captured\nprepare {RATE} 512\ninput song.wav\ncapture\nsleep 0.5\n"
    playing = f"play 0 {len(song_NC)} 512\nidle 4096 512\nsettle 200\nsave project.state\n"
    run_host(setting_up + playing, server.home, tmp_path)
    stems = [path for path in server.home.rglob("captures/stems/*") if path.is_dir()]
    assert stems
    for folder in stems:
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    again = f"load direct\nopen project.state\nprepare {RATE} 512\ninput song.wav\noffline on\nrecord on\n"
    run_host(again + f"play 0 {len(song_NC)} 512\nwrite again.wav\n", server.home, tmp_path)
    assert_bounced(read_buses(tmp_path / "again.wav"), bounced, song_NC, faded=FADE)


def test_a_dropped_file_plays_and_leaves_as_the_stems_of_a_bounce(
    server: RunningServer, bounced: dict[str, Audio], song_NC: Audio, tmp_path: Path
) -> None:
    write_song(tmp_path / "song.wav", song_NC, RATE)
    script = f"""
        load direct
        param Mode = Captured
        prepare {RATE} 512
        input song.wav
        play 0 1024 512
        drop song.wav
        settle 200
        export stems
        record on
        play 0 {len(song_NC)} 512
        write out.wav
        drop project.state
        settle 10
    """
    (tmp_path / "project.state").write_bytes(b"no song")
    said = run_host(script, server.home, tmp_path)
    settled, exported, wrong = said.all("problem")
    assert settled == exported == ""
    assert "Use WAV, FLAC, AIFF or OGG" in wrong
    assert_bounced(read_buses(tmp_path / "out.wav"), bounced, song_NC)
    for bus, stem_NC in bounced.items():
        exported_NC, rate = soundfile.read(tmp_path / "stems" / f"{bus.lower()}.wav", dtype="float32", always_2d=True)
        assert rate == RATE
        assert np.array_equal(exported_NC, stem_NC)
