"""What is played in hosts, and what must come out of them."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile
from plugin_support import BUSES, STEMS, Audio, sum_of_stems, write_song
from service_support import RunningServer

ROOT = Path(__file__).parent.parent
RATE = 44100
SECONDS = 6
WHOLE_WINDOWS_S = 12.0  # the latency at which a bounce's windows fit into a stream


def excerpt() -> Audio:
    """Six seconds of the song that comes with the project."""
    audio_NC, rate = soundfile.read(ROOT / "examples" / "stemline_demo.flac", dtype="float32", always_2d=True)
    assert rate == RATE
    song_NC: Audio = audio_NC[5 * RATE : (5 + SECONDS) * RATE]
    return song_NC


def bounce(server: RunningServer, song_NC: Audio, rate: int, folder: Path) -> dict[str, Audio]:
    """What `pyserver bounce` makes of the song, by bus; a stem that the model does not have is silent."""
    song = write_song(folder / "song.wav", song_NC, rate)
    command = [sys.executable, "-m", "pyserver", "bounce", str(song), "-o", str(folder), "--steps", "1"]
    subprocess.run(command, env=os.environ | {"STEMLINE_HOME": str(server.home)}, check=True, capture_output=True)
    stems = {}
    for stem in STEMS:
        path = folder / "song" / f"{stem}.wav"
        stems[stem.capitalize()] = (
            soundfile.read(path, dtype="float32", always_2d=True)[0] if path.exists() else np.zeros_like(song_NC)
        )
    return stems


def assert_bounced(
    buses: dict[str, Audio], bounced: dict[str, Audio], song_NC: Audio, latency: int = 0, faded: int = 0
) -> None:
    """The last `faded` samples only have to sum to the song."""
    heard = slice(latency, latency + len(song_NC))
    exact = slice(0, len(song_NC) - faded)
    for bus in BUSES[1:]:
        assert np.array_equal(buses[bus][heard][exact], bounced[bus][exact]), f"{bus} is not the bounce's"
    assert np.abs(buses["Main"][heard] - song_NC).max() < 1e-6
    assert np.abs(sum_of_stems(buses)[heard] - song_NC).max() < 1e-6
