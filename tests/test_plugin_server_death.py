"""The server dies while the plugin plays in real time: nothing shifts or clicks, and stems come back by themselves."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from plugin_support import BUSES, delayed, read_buses, run_host, sum_of_stems, write_song
from service_support import running_server, song

RATE = 44100
SECONDS = 62
DEATHS = 5
BACK_WITHIN_S = 3.0


def test_the_sum_is_kept_and_stems_return_after_each_death(tmp_path: Path) -> None:
    """Five deaths, with the model that ships. What was played meanwhile and is not heard yet is separated after all."""
    home, models = tmp_path / "home", tmp_path / "none"
    song_NC = song(SECONDS)
    write_song(tmp_path / "song.wav", song_NC, RATE)
    script = f"""
        load direct
        prepare {RATE} 512
        input song.wav
        latency
        pace on
        record on
        play 0 {SECONDS * RATE} 512
        timing
        write out.wav
    """
    with ThreadPoolExecutor(1) as pool:
        playing = pool.submit(run_host, script, home, tmp_path)
        ready, killed = [], []
        for _ in range(DEATHS):
            with running_server(home, models) as server:
                ready.append(time.time())
                time.sleep(7)
                server.kill()
                killed.append(time.time())
        with running_server(home, models):
            ready.append(time.time())
            said = playing.result()
    buses = read_buses(tmp_path / "out.wav")
    expected_NC = delayed(song_NC, said["latency"], len(song_NC))
    assert np.abs(sum_of_stems(buses) - expected_NC).max() < 1e-6
    assert np.abs(buses["Main"] - expected_NC).max() < 1e-6

    # A stem fades where it goes and where it comes: next to silence it is soft.
    for bus in BUSES[1:7]:
        left_N, right_N = np.abs(buses[bus][:-1]).max(1), np.abs(buses[bus][1:]).max(1)
        edges_N = np.where((left_N == 0) != (right_N == 0), left_N + right_N, 0)
        assert edges_N.max() <= 0.02 * left_N.max()

    heard_N = np.abs(buses["Bass"]).max(1) > 0
    assert not heard_N[: said["latency"]].any()
    for death, again, until in zip(killed, ready[1:], [*killed[1:], said["began"] + SECONDS], strict=True):
        dead, back, end = (round((at - said["began"]) * RATE) for at in (death, again, until))
        silent = dead + np.flatnonzero(~heard_N[dead:end])
        assert len(silent) > 0, "the server's death was not noticed: this test has shown nothing"
        gone, returned = silent[0], silent[-1] + 1
        print(
            f"away {again - death:.1f} s; silent from {(gone - dead) / RATE:.2f} s after the death "
            f"to {(returned - back) / RATE:.2f} s after the next was ready"
        )
        assert returned - back <= BACK_WITHIN_S * RATE
    assert said["max"] < 10, "processBlock waited for a dead server"
