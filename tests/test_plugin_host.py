"""The whole plugin in a host that misbehaves: what comes out is the input, delayed and split, whatever happens."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from plugin_support import (
    BUSES,
    LATENCY_S,
    STEMS,
    bundle,
    delayed,
    lv2_bundle,
    read_buses,
    run_host,
    sum_of_stems,
    write_song,
)
from service_support import RunningServer, running_server, song

RATE = 44100


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Of a user who has no server."""
    return tmp_path / "home"


def test_buses_have_their_names_and_order(home: Path, tmp_path: Path) -> None:
    said = run_host(f"load {bundle()}\nbuses\n", home, tmp_path)
    assert said["buses"].split(",") == list(BUSES)


@pytest.mark.parametrize("sizes", ["1", "17", "64", "512", "2048", "792,232,768,256", "random:3:1500"])
@pytest.mark.parametrize("channels", [1, 2])
def test_without_a_server_the_track_plays_on_in_the_residual(
    home: Path, tmp_path: Path, sizes: str, channels: int
) -> None:
    song_NC = song(0.5 if sizes == "1" else 4.0, channels)
    write_song(tmp_path / "song.wav", song_NC, RATE)
    latency = 0.25 if sizes == "1" else LATENCY_S
    frames = len(song_NC) + round(latency * RATE)
    script = f"""
        load direct
        layout {channels}
        param Live latency = {latency:g} s
        prepare {RATE} 2048
        input song.wav
        record on
        latency
        play 0 {frames} {sizes}
        write out.wav
    """
    said = run_host(script, home, tmp_path)
    assert said["latency"] == round(latency * RATE)
    buses = read_buses(tmp_path / "out.wav", channels)
    expected_NC = delayed(song_NC, said["latency"], frames)
    assert np.array_equal(buses["Residual"], expected_NC)
    assert np.abs(buses["Main"] - expected_NC).max() < 1e-6
    for bus in BUSES[1:7]:
        assert not buses[bus].any()


@pytest.mark.parametrize("rate", [44100, 48000, 96000])
@pytest.mark.parametrize("channels", [1, 2])
def test_offline_every_stem_comes_and_the_sum_is_the_delayed_input(
    server: RunningServer, tmp_path: Path, rate: int, channels: int
) -> None:
    song_NC = song(4.0, channels)
    write_song(tmp_path / "song.wav", song_NC, rate)
    script = f"""
        load direct
        layout {channels}
        prepare {rate} 1024
        input song.wav
        offline on
        record on
        latency
        play 0 {len(song_NC) + 4 * rate} random:5:1024
        write out.wav
    """
    said = run_host(script, server.home, tmp_path)
    buses = read_buses(tmp_path / "out.wav", channels)
    expected_NC = delayed(song_NC, said["latency"], len(song_NC) + 4 * rate)
    assert np.abs(sum_of_stems(buses) - expected_NC).max() < 1e-6
    assert np.abs(buses["Main"] - expected_NC).max() < 1e-6
    inside = slice(said["latency"], said["latency"] + len(song_NC))
    assert np.abs(buses["Residual"][inside]).max() < 1e-5, "the stems of this model make up the whole mixture"
    assert np.abs(buses["Bass"][inside]).max() > 1e-3


def test_jumps_loops_and_stops_shift_nothing(server: RunningServer, tmp_path: Path) -> None:
    song_NC = song(6.0)
    write_song(tmp_path / "song.wav", song_NC, RATE)
    plays = [(0, 40_000), (100_000, 33_333), (100_000, 33_333), (5_000, 70_001), (200_000, 64), (10, 200_000)]
    steps = "\n".join(f"play {position} {frames} random:{frames}:700\nidle 1000 256" for position, frames in plays)
    script = f"""
        load direct
        prepare {RATE} 1024
        input song.wav
        offline on
        record on
        latency
        {steps}
        write out.wav
    """
    said = run_host(script, server.home, tmp_path)
    heard = [np.vstack([song_NC[p : p + n], np.zeros((1000 + max(0, p + n - len(song_NC)), 2))]) for p, n in plays]
    played_NC = np.vstack(heard).astype(np.float32)
    buses = read_buses(tmp_path / "out.wav")
    expected_NC = delayed(played_NC, said["latency"], len(played_NC))
    assert np.abs(sum_of_stems(buses) - expected_NC).max() < 1e-6
    assert np.abs(buses["Residual"]).max() < 1e-5, "at a jump the stems of what came before it were lost"


def test_solo_mute_gain_and_main_output(server: RunningServer, tmp_path: Path) -> None:
    song_NC = song(4.0)
    write_song(tmp_path / "song.wav", song_NC, RATE)
    script = f"""
        load direct
        param Bass solo = On
        param Bass gain = -6.0
        prepare {RATE} 512
        input song.wav
        offline on
        record on
        play 0 {8 * RATE} 512
        write solo.wav
        param Main output = Drums
        record on
        prepare {RATE} 512
        play 0 {8 * RATE} 512
        write drums.wav
    """
    run_host(script, server.home, tmp_path)
    solo = read_buses(tmp_path / "solo.wav")
    assert np.abs(solo["Main"] - solo["Bass"] * 10 ** (-6 / 20)).max() < 1e-6
    drums = read_buses(tmp_path / "drums.wav")
    late = slice(RATE, None)  # the change of a parameter is a ramp
    assert np.array_equal(drums["Main"][late], drums["Drums"][late])
    assert np.abs(drums["Drums"]).max() > 1e-3


def test_bypass_stays_aligned(server: RunningServer, tmp_path: Path) -> None:
    song_NC = song(5.0)
    write_song(tmp_path / "song.wav", song_NC, RATE)
    script = f"""
        load direct
        prepare {RATE} 512
        input song.wav
        offline on
        record on
        latency
        play 0 {4 * RATE} 512
        bypass on
        play {4 * RATE} {4 * RATE} 512
        write out.wav
    """
    said = run_host(script, server.home, tmp_path)
    buses = read_buses(tmp_path / "out.wav")
    expected_NC = delayed(song_NC, said["latency"], 8 * RATE)
    assert np.abs(buses["Main"] - expected_NC).max() < 1e-6
    bypassed = slice(4 * RATE, None)
    assert not any(buses[bus][bypassed].any() for bus in BUSES[1:7])
    assert np.array_equal(buses["Residual"][bypassed], expected_NC[bypassed])


def test_state_survives_and_damage_does_not_hurt(home: Path, tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    settings = "param Bass gain = -7.5\nparam Mode = Captured\nparam Refiner steps = 4\nparam Vocals mute = On\n"
    run_host(f"load direct\nprepare {RATE} 512\n{settings}save good.state\n", home, tmp_path)
    good = (tmp_path / "good.state").read_bytes()
    names = []
    for index in range(10_000):
        blob = bytearray(good[: generator.integers(0, len(good))] if index % 3 == 0 else good)
        if index % 3 == 1:
            for at in generator.integers(0, len(blob), 8):
                blob[at] = generator.integers(0, 256)
        if index % 3 == 2:
            blob = bytearray(generator.bytes(int(generator.integers(0, 400))))
        name = f"{index}.blob"
        (tmp_path / name).write_bytes(bytes(blob))
        names.append(name)
    fuzz = "\n".join("fuzz " + " ".join(names[first : first + 500]) for first in range(0, len(names), 500))
    show = "\n".join(f"show {name}" for name in ("Bass gain", "Mode", "Refiner steps", "Vocals mute"))
    script = f"load direct\nprepare {RATE} 512\n{fuzz}\nplay 0 2048 512\nopen good.state\n{show}\n"
    said = run_host(script, home, tmp_path)
    assert sum(said.all("states")) == 10_000
    assert said.all("value") == ["-7.5", "Captured", "4", "On"]


def test_the_audio_thread_neither_allocates_nor_locks_nor_calls_the_system(
    server: RunningServer, tmp_path: Path
) -> None:
    song_NC = song(4.0)
    write_song(tmp_path / "song.wav", song_NC, RATE)
    script = f"""
        load direct
        prepare {RATE} 1024
        input song.wav
        pace on
        play 0 {RATE} 256
        watch on
        play {RATE} {5 * RATE} random:2:1024
        play 500 {RATE} 64
        idle {RATE} 512
        bypass on
        play 0 {RATE // 2} 512
        offences
        bypass off
        watch off
        pace off
        syscalls {4 * RATE} random:3:1024
    """
    said = run_host(script, server.home, tmp_path, checked=True)
    assert said["offences"] == 0, said.errors
    assert said["system_calls"] == 0, said.errors


def test_process_block_is_cheap(server: RunningServer, tmp_path: Path) -> None:
    """At most 3 % of a block of 64 frames at 48 kHz, with eight stereo buses. A busy machine gets several tries."""
    write_song(tmp_path / "song.wav", song(4.0), 48000)
    script = "load direct\nprepare 48000 64\ninput song.wav\npace on\nplay 0 384000 64\ntiming\n"
    figures = []
    for _ in range(5):
        figures.append(run_host(script, server.home, tmp_path)["median"])
        if figures[-1] <= 0.03:
            return
    pytest.fail(f"processBlock takes {figures} of its time")


def fifty_lives(where: Path, tmp_path: Path) -> None:
    write_song(tmp_path / "song.wav", song(1.0), RATE)
    once = f"load {bundle()}\nprepare {RATE} 512\ninput song.wav\nplay 0 {RATE // 4} 512\nsleep 0.1\nunload\n"
    script = once * 5 + "resources\n" + once * 45 + "resources\n"
    early, late = run_host(script, where, tmp_path, timeout_s=600).answers[-2:]
    assert late["threads"] <= early["threads"]
    assert late["descriptors"] <= early["descriptors"]
    assert late["rss_kib"] - early["rss_kib"] < 20 * 1024


def test_fifty_lives_leave_nothing_behind(server: RunningServer, home: Path, tmp_path: Path) -> None:
    for where in (server.home, home):
        fifty_lives(where, tmp_path)


def test_fifty_lives_in_which_the_server_is_killed_leave_nothing_behind(tiny_model_dir: Path, tmp_path: Path) -> None:
    """It dies while one of them streams; those after it find what it left behind."""
    with running_server(tmp_path / "home", tiny_model_dir) as dying, ThreadPoolExecutor(1) as pool:
        lives = pool.submit(fifty_lives, dying.home, tmp_path)
        time.sleep(3)
        assert not lives.done()
        dying.kill()
        lives.result()


def test_forty_instances_share_a_connection_and_leave_nothing_behind(server: RunningServer, tmp_path: Path) -> None:
    said = run_host(f"crowd 2 {RATE}\ncrowd 40 {4 * RATE}\n", server.home, tmp_path)
    few, many = said.answers
    per_instance = (many["threads"][1] - few["threads"][1]) / 38
    assert per_instance <= 3, "a control thread, a worker, and one more while connecting"
    assert many["descriptors"][1] - few["descriptors"][1] < 38, "each instance has a connection of its own"
    assert many["threads"][2] <= few["threads"][2]
    assert many["descriptors"][2] <= few["descriptors"][2]


def test_lv2_hosts_find_the_plugin_under_a_name_that_stays() -> None:
    """Projects refer to it: it must not be where the bundle happens to lie."""
    manifest = (lv2_bundle() / "manifest.ttl").read_text()
    assert "<https://stemline.org/plugins/stemline>\n\ta lv2:Plugin" in manifest


def test_stems_have_the_names_of_the_buses() -> None:
    assert [bus.lower() for bus in BUSES[1:]] == list(STEMS)
