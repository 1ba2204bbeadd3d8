"""The plugin's client against the real server: positions, bits, trust, and what happens when one of them goes away."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from client_tool import (
    FOREVER,
    LIMIT_S,
    LOST,
    MODEL_STEMS,
    NEEDS_TOOL,
    READY,
    REFUSED,
    STARTING,
    STOPPED,
    UNHURRIED,
    bounced,
    play,
    read_bus,
    running_tool,
    sum_of_buses,
    write_input,
)
from plugin_support import STEMS, delayed
from service_support import RATE, RunningServer, running_server, song

pytestmark = NEEDS_TOOL


async def test_offline_every_stem_is_the_bounce_at_its_place(server: RunningServer, tmp_path: Path) -> None:
    song_NC = song(6.0)
    write_input(tmp_path / "in.f32", song_NC)
    options = ("--in", str(tmp_path / "in.f32"), "--out", str(tmp_path), "--offline", "--seed", "7")
    with running_tool("live", server.home, *options, "--position", "88200", "--latency-s", "4") as tool:
        end = tool.end()
        assert tool.finish() == 0
    assert end["late_frames"] == end["lost_frames"] == end["dropped"] == 0
    assert end["bounce_windows"] == 1
    latency = end["total_latency"]
    expected = await bounced(server, song_NC, noise_seed=7)
    for stem in MODEL_STEMS:
        bus_NC = read_bus(tmp_path, stem)
        assert not bus_NC[:latency].any()
        assert bus_NC[latency:].tobytes() == expected[stem], stem
    assert not read_bus(tmp_path, "vocals").any()
    assert np.abs(sum_of_buses(tmp_path) - delayed(song_NC, latency, latency + len(song_NC))).max() < 1e-6


@pytest.mark.parametrize("channels", [1, 2])
def test_jumps_shift_nothing(server: RunningServer, tmp_path: Path, channels: int) -> None:
    song_NC = song(5.0, channels)
    write_input(tmp_path / "in.f32", song_NC)
    options = ["--in", str(tmp_path / "in.f32"), "--out", str(tmp_path), "--offline", "--block", "300"]
    options += ["--channels", str(channels), "--latency-s", "4", "--jumps", "50100:0,100200:0,150000:-4410"]
    with running_tool("live", server.home, *options) as tool:
        end = tool.end()
        assert tool.finish() == 0
    latency = end["total_latency"]
    expected_NC = delayed(song_NC, latency, latency + len(song_NC))
    assert end["late_frames"] == end["lost_frames"] == 0
    assert np.abs(sum_of_buses(tmp_path, channels) - expected_NC).max() < 1e-6
    # The tiny model's stems sum to the mixture: if they are at their places, nothing remains.
    assert np.abs(read_bus(tmp_path, "residual", channels)).max() < 2e-6
    assert max(np.abs(read_bus(tmp_path, stem, channels)).max() for stem in MODEL_STEMS) > 0.01


def ready_or_skip(tool: Any) -> None:
    """A machine so busy that it can promise no latency cannot be tested for keeping one."""
    while (state := tool.wait_for("state"))["state"] != READY:
        if state["reason"] == "LATENCY_NOT_POSSIBLE":
            pytest.skip(state["message"])


def assert_nothing_is_lost(folder: Path, seconds: float, latency: int) -> None:
    song_NC = song(seconds)
    expected_NC = delayed(song_NC, latency, latency + len(song_NC))
    assert np.abs(sum_of_buses(folder) - expected_NC).max() < 1e-6


def test_in_real_time_stems_play_at_their_place(server: RunningServer, tmp_path: Path) -> None:
    with play(server.home, tmp_path, 5.0, "--jumps", "100000:0") as tool:
        ready_or_skip(tool)
        end = tool.end()
        assert tool.finish() == 0
    assert end["late_frames"] <= 2 * RATE, "stems came for less than half of the song"
    assert_nothing_is_lost(tmp_path, 5.0, end["total_latency"])
    residual_NC = read_bus(tmp_path, "residual")
    played = np.abs(residual_NC).max(axis=1) < 2e-6
    assert played[end["total_latency"] :].mean() > 0.5


def test_without_a_server_the_input_is_drained_and_plays_dry(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    song_NC = song(8.0)
    write_input(tmp_path / "in.f32", song_NC)
    files = ("--in", str(tmp_path / "in.f32"), "--out", str(tmp_path), "--latency-s", "0.5")
    with running_tool("live", tmp_path / "home", *files) as tool:
        end = tool.end()
        assert tool.finish() == 0
    assert end["lost_frames"] == 0
    assert end["skipped"] > 0
    assert_nothing_is_lost(tmp_path, 8.0, end["total_latency"])
    assert np.array_equal(
        read_bus(tmp_path, "residual"),
        delayed(song_NC, end["total_latency"], end["total_latency"] + len(song_NC)),
    )


def test_a_killed_server_is_lost_and_a_new_one_is_found(tiny_model_dir: Path, tmp_path: Path) -> None:
    home, seconds = tmp_path / "home", 30.0
    with running_server(home, tiny_model_dir) as first, play(home, tmp_path, seconds, *FOREVER, *UNHURRIED) as tool:
        tool.wait_for("state", state=READY)
        tool.tell("status")
        assert "cpu" in tool.wait_for("status")["chip"]
        first.kill()
        lost = tool.wait_for("state", state=LOST)
        assert lost["chip"].startswith("Server lost · try ")
        assert lost["message"]
        with running_server(home, tiny_model_dir):
            again = tool.wait_for("state", state=READY)
            assert again["reconnections"] == 1
            before = again["received"]
            while before == (now := status(tool)["received"]):
                time.sleep(0.1)
            assert now > before
            tool.tell("quit")
            end = tool.end()
            assert tool.finish() == 0
    song_NC = song(seconds)
    sum_NC = sum_of_buses(tmp_path)
    assert np.abs(sum_NC - delayed(song_NC, end["total_latency"], len(sum_NC))).max() < 1e-6


def status(tool: Any) -> dict[str, Any]:
    tool.tell("status")
    found: dict[str, Any] = tool.wait_for("status")
    return found


def test_a_server_that_is_shut_down_is_not_started_again_until_somebody_asks(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    environment = starting_environment(tiny_model_dir)
    options = ("--start", "--start-arguments", "cpu", "--idle")
    with (
        running_server(home, tiny_model_dir) as server,
        play(home, tmp_path, 1.0, *FOREVER, *options, **environment) as tool,
    ):
        tool.wait_for("state", state=READY)
        assert server.terminate() == 0
        tool.wait_for("state", state=LOST)
        time.sleep(3)
        assert not psutil.pid_exists(server.process.pid)
        assert not (home / "run" / "server.json").exists()
        tool.tell("try")
        tool.wait_for("state", state=READY)
        end_server(home)


def starting_environment(models: Path) -> dict[str, str]:
    root = str(Path(__file__).parent.parent)
    return {"STEMLINE_PYTHON": sys.executable, "STEMLINE_MODELS": str(models), "PYTHONPATH": root}


def end_server(home: Path) -> None:
    """A server that a tool has started outlives it."""
    pid = int((home / "state" / "server.lock").read_text())
    os.kill(pid, signal.SIGTERM)
    until = time.monotonic() + LIMIT_S
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < until
        time.sleep(0.05)


def test_where_no_server_runs_one_is_started_and_it_stays(tiny_model_dir: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    options = (*UNHURRIED, "--start", "--start-arguments", "cpu")
    with play(home, tmp_path, 1.0, *options, **starting_environment(tiny_model_dir)) as tool:
        end = tool.end()
        assert tool.finish() == 0
        assert STARTING in tool.states()
    assert end["sent"] > 0
    pid = int((home / "state" / "server.lock").read_text())
    assert psutil.Process(pid).is_running()
    assert os.getsid(pid) == pid, "it would end with the host's session"
    assert "is ready" in (home / "state" / "started-by-plugin.log").read_text()
    end_server(home)


def test_a_server_that_was_killed_is_started_again(tiny_model_dir: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    options = (*UNHURRIED, "--start", "--start-arguments", "cpu")
    with play(home, tmp_path, 1.0, *FOREVER, *options, **starting_environment(tiny_model_dir)) as tool:
        tool.wait_for("state", state=READY)
        pid = int((home / "state" / "server.lock").read_text())
        os.kill(pid, signal.SIGKILL)
        tool.wait_for("state", state=READY, reconnections=1)
        assert int((home / "state" / "server.lock").read_text()) != pid
        tool.tell("restart")
        tool.wait_for("state", state=STARTING)
        tool.wait_for("state", state=READY, reconnections=2)
        tool.tell("quit")
        assert tool.finish() == 0
        end_server(home)


def test_a_server_that_cannot_start_is_reported_with_its_last_words(tmp_path: Path) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho 'No module named torch' >&2\nexit 1\n")
    program.chmod(0o700)
    with play(tmp_path / "home", tmp_path, 1.0, *FOREVER, "--start", STEMLINE_PYTHON=str(program)) as tool:
        state = tool.wait_for("state", reason="SERVER_DID_NOT_START")
        assert state["state"] == STOPPED
        assert "No module named torch" in state["log"]
        tool.tell("quit")
        assert tool.finish() == 0


def test_without_leave_to_start_one_the_server_is_stopped(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    with play(tmp_path / "home", tmp_path, 1.0, *FOREVER) as tool:
        assert tool.wait_for("state", reason="SERVER_STOPPED")["chip"] == "Server stopped"
        tool.tell("quit")
        assert tool.finish() == 0


@pytest.mark.parametrize("what", ["live", "idle"])
def test_stop_does_not_wait_for_a_server_that_hangs(tiny_model_dir: Path, tmp_path: Path, what: str) -> None:
    options = ("--idle",) if what == "idle" else UNHURRIED
    home = tmp_path / "home"
    with running_server(home, tiny_model_dir) as server, play(home, tmp_path, 1.0, *FOREVER, *options) as tool:
        tool.wait_for("state", state=READY)
        time.sleep(1)
        server.process.send_signal(signal.SIGSTOP)
        try:
            time.sleep(4)  # the way to it fills up
            tool.tell("stop")
            assert tool.wait_for("stopped")["seconds"] < 1
            tool.tell("quit")
            assert tool.finish() == 0
        finally:
            server.process.send_signal(signal.SIGCONT)


def test_connecting_to_a_server_that_hangs_can_be_stopped(tiny_model_dir: Path, tmp_path: Path) -> None:
    with running_server(tmp_path / "home", tiny_model_dir) as server:
        server.process.send_signal(signal.SIGSTOP)
        try:
            with play(server.home, tmp_path, 1.0, *FOREVER) as tool:
                time.sleep(1)
                tool.tell("stop")
                assert tool.wait_for("stopped")["seconds"] < 1
                tool.tell("quit")
                assert tool.finish() == 0
        finally:
            server.process.send_signal(signal.SIGCONT)


def test_a_model_that_is_missing_is_named(server: RunningServer, tmp_path: Path) -> None:
    with play(server.home, tmp_path, 1.0, *FOREVER, "--model", "no-such-model") as tool:
        state = tool.wait_for("state", state=REFUSED)
        assert state["reason"] == "UNKNOWN_MODEL"
        assert state["chip"] == "Model missing on the server"
        assert "no-such-model" in state["message"]
        tool.tell("quit")
        assert tool.finish() == 0


def test_a_latency_that_cannot_be_held_is_refused_with_its_reason(server: RunningServer, tmp_path: Path) -> None:
    with play(server.home, tmp_path, 1.0, *FOREVER, "--latency-s", "0.15") as tool:
        assert tool.wait_for("state", state=REFUSED)["reason"] == "LATENCY_NOT_POSSIBLE"
        tool.tell("quit")
        assert tool.finish() == 0


def test_fewer_refiner_steps_take_effect_in_the_open_session(server: RunningServer, tmp_path: Path) -> None:
    with play(server.home, tmp_path, 1.0, *FOREVER) as tool:
        ready_or_skip(tool)
        tool.tell("steps 0")
        time.sleep(1)
        assert status(tool)["reconnections"] == 0
        assert status(tool)["steps"] == 1, "it opened a new session"
        tool.tell("steps 2")  # which it was not opened for, and which a busy machine may not hold
        until = time.monotonic() + LIMIT_S
        while (now := status(tool))["steps"] != 2 and now["reason"] != "LATENCY_NOT_POSSIBLE":
            assert time.monotonic() < until
            time.sleep(0.1)
        tool.tell("quit")
        assert tool.finish() == 0


def test_nan_costs_a_chunk_and_not_the_session(server: RunningServer, tmp_path: Path) -> None:
    song_NC = song(4.0)
    song_NC[60000, 0] = np.nan
    song_NC[90000, 1] = np.inf
    write_input(tmp_path / "in.f32", song_NC)
    options = ("--in", str(tmp_path / "in.f32"), "--out", str(tmp_path), "--offline", "--latency-s", "4")
    with running_tool("live", server.home, *options) as tool:
        end = tool.end()
        assert tool.finish() == 0
    assert end["non_finite"] == 2
    assert end["reconnections"] == 0
    assert end["received"] >= len(song_NC)


def test_many_links_share_one_connection(server: RunningServer, tmp_path: Path) -> None:
    def connections() -> int:
        return sum(1 for c in psutil.Process(server.process.pid).net_connections("unix") if c.raddr or c.laddr)

    before = connections()
    with play(server.home, tmp_path, 1.0, *FOREVER, "--idle", "--links", "20") as tool:
        tool.wait_for("all-ready")
        assert connections() - before == 1
        threads = psutil.Process(tool.process.pid).num_threads()
        assert threads < 20 + 25
        tool.tell("quit")
        assert tool.finish() == 0


def test_models_are_listed(server: RunningServer, tmp_path: Path) -> None:
    with running_tool("models", server.home) as tool:
        assert tool.wait_for("default")["name"] == "stemline-small"
        assert tool.finish() == 0
    models = {line["name"]: line["stems"] for line in tool.said if line["event"] == "model"}
    assert models["tiny-two"] == list(MODEL_STEMS)
    assert set(STEMS) >= set(models["tiny-two"])
