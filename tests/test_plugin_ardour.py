"""The real binary in the real Ardour, exported by it: the stems of a bounce on every bus, where the song is."""

from collections.abc import Iterator
from pathlib import Path

import ardour_host
import numpy as np
import pytest
from daw_support import RATE, SECONDS, assert_bounced, bounce, excerpt
from plugin_support import Audio, run_host, write_song
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


def test_captured_stems_are_those_of_a_bounce(
    server: RunningServer, bounced: dict[str, Audio], song_NC: Audio, tmp_path: Path
) -> None:
    song = write_song(tmp_path / "song.wav", song_NC, RATE)
    drop = ("param Mode = Captured", f"prepare {RATE} 512", "play 0 1024 512", "drop song.wav", "settle 200")
    tracks = ardour_host.export(tmp_path, server.home, song, project(server, tmp_path, *drop), SECONDS + 0.1)
    assert np.array_equal(tracks["Dry"][: len(song_NC)], song_NC)
    assert_bounced(tracks, bounced, song_NC)
