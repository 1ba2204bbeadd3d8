"""The real binary in the real Ardour, exported by it: the stems of a bounce on every bus, where the song is."""

from collections.abc import Iterator
from pathlib import Path

import ardour_host
import numpy as np
import pytest
import soxr
from daw_support import RATE, SECONDS, assert_bounced, bounce, excerpt
from plugin_support import BUSES, Audio, run_host, write_song
from service_support import RunningServer, running_server

pytestmark = pytest.mark.skipif(
    not ardour_host.installed(), reason="Ardour 7 is not installed (apt-get install ardour)"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("ardour")
    (folder / "no-other-models").mkdir()
    with running_server(folder / "home", folder / "no-other-models") as running:
        yield running


@pytest.fixture(scope="module")
def song_NC() -> Audio:
    return excerpt()


@pytest.fixture(scope="module")
def bounced(server: RunningServer, song_NC: Audio, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Audio]:
    return bounce(server, song_NC, RATE, tmp_path_factory.mktemp("bounced"))


def project(server: RunningServer, folder: Path, *commands: str) -> bytes:
    """The plugin's state after the console host has carried out `commands`."""
    run_host("\n".join(["load direct", *commands, "save project.state"]), server.home, folder)
    return (folder / "project.state").read_bytes()


def assert_where_the_song_is(tracks: dict[str, Audio], bounced: dict[str, Audio], song_NC: Audio) -> None:
    """One export in a few begins up to a block after the session does, with and without plugins in it. What counts is
    that nothing is elsewhere than on the track without a plugin."""
    lost = next(n for n in range(1024) if np.array_equal(tracks["Dry"][: len(song_NC) - n], song_NC[n:]))
    assert_bounced(tracks, {bus: stem_NC[lost:] for bus, stem_NC in bounced.items()}, song_NC[lost:])


def test_captured_stems_are_those_of_a_bounce(
    server: RunningServer, bounced: dict[str, Audio], song_NC: Audio, tmp_path: Path
) -> None:
    song = write_song(tmp_path / "song.wav", song_NC, RATE)
    drop = ("param Mode = Captured", f"prepare {RATE} 512", "play 0 1024 512", "drop song.wav", "settle 200")
    tracks = ardour_host.export(tmp_path, server.home, song, project(server, tmp_path, *drop), SECONDS + 0.1)
    assert_where_the_song_is(tracks, bounced, song_NC)


def test_live_stems_are_those_of_a_bounce_and_ardour_takes_the_latency_away(
    server: RunningServer, bounced: dict[str, Audio], song_NC: Audio, tmp_path: Path
) -> None:
    """The project's latency is not the default one: Ardour asks for it as soon as it has given the plugin its state."""
    song = write_song(tmp_path / "song.wav", song_NC, RATE)
    state = project(server, tmp_path, "param Live latency = 12 s")
    tracks = ardour_host.export(tmp_path, server.home, song, state, SECONDS + 0.1)
    assert_where_the_song_is(tracks, bounced, song_NC)


def test_live_stems_are_those_of_a_bounce_at_48_khz(server: RunningServer, song_NC: Audio, tmp_path: Path) -> None:
    rate = 48000
    short_NC = soxr.resample(song_NC[: 3 * RATE], RATE, rate)
    bounced = bounce(server, short_NC, rate, tmp_path)
    state = project(server, tmp_path, "param Live latency = 12 s")
    tracks = ardour_host.export(tmp_path, server.home, tmp_path / "song.wav", state, 3.1)
    assert_where_the_song_is(tracks, bounced, short_NC)


def test_the_lv2_plays_stems_that_sum_to_the_track(server: RunningServer, song_NC: Audio, tmp_path: Path) -> None:
    """As it is inserted: Live, with live windows. The host takes its latency away."""
    song = write_song(tmp_path / "song.wav", song_NC, RATE)
    tracks = ardour_host.export(tmp_path, server.home, song, None, SECONDS + 0.1)
    dry_NC = tracks["Dry"]
    assert np.abs(sum(tracks[bus] for bus in BUSES[1:]) - dry_NC).max() < 1e-6
    assert np.abs(tracks["Main"] - dry_NC).max() < 1e-6
    for bus in ("Drums", "Bass", "Guitar", "Piano", "Other"):
        assert np.abs(tracks[bus]).max() > 0.01, f"no {bus}"
    assert np.abs(dry_NC).max() > 0.1
