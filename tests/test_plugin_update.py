"""An edit upstream of what was captured: it shows as stale, and "Update" separates what was heard since."""

from pathlib import Path

import numpy as np
import pytest
from daw_support import bounce
from plugin_support import Audio, read_buses, run_host, write_song
from service_support import RunningServer, song

RATE = 44100
PAGE = 4096
SETTLED = RATE // 10  # after a jump hosts fade, so what comes before is not compared
FADE = 256  # at the end of a recorded region

EDIT = slice(2 * RATE, 3 * RATE)
LATER_EDIT = slice(4 * RATE, 5 * RATE)
LATER_JUMP = 4 * RATE + RATE // 2  # the first half of the later edit is not played


def assert_stems(buses: dict[str, Audio], stems: dict[str, Audio]) -> None:
    """Sample for sample, but for the fade at the end."""
    for bus, stem_NC in stems.items():
        assert np.array_equal(buses[bus][:-FADE], stem_NC[:-FADE]), bus


def extents(text: str) -> list[tuple[int, int]]:
    return [(int(first), int(stop)) for first, stop in (extent.split("-") for extent in text.split())]


def pages(first: int, stop: int) -> tuple[int, int]:
    return first // PAGE * PAGE, -(-stop // PAGE) * PAGE


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Audio]]:
    """As captured; with an edit; and with a later one, too."""
    folder = tmp_path_factory.mktemp("songs")
    changed_NC = song(6.0).copy()
    changed_NC[EDIT] = 0.5 * changed_NC[EDIT][::-1]
    later_NC = changed_NC.copy()
    later_NC[LATER_EDIT] *= 0.25
    songs = {"captured": song(6.0), "changed": changed_NC, "later": later_NC}
    for name, song_NC in songs.items():
        write_song(folder / f"{name}.wav", song_NC, RATE)
    return folder, songs


CAPTURE = f"""
    load direct
    param Mode = Captured
    prepare {RATE} 512
    input captured.wav
    capture
    sleep 0.5
    play 0 {6 * RATE} 512
    idle 4096 512
    settle 100
"""


def test_update_makes_the_stems_of_what_was_heard_since(
    server: RunningServer, songs: tuple[Path, dict[str, Audio]], tmp_path: Path
) -> None:
    folder, audio = songs
    script = f"""{CAPTURE}
        play 0 {6 * RATE} 512
        stale
        input changed.wav
        play {RATE} {5 * RATE // 2} random:3:900
        idle 4096 512
        stale
        record on
        play 0 {6 * RATE} 512
        write before.wav
        idle 4096 512
        update
        settle 100
        stale
        idle 4096 512
        record on
        play 0 {6 * RATE} 512
        write after.wav
        stale
        prepare {RATE} 512
        input later.wav
        play {LATER_JUMP} {RATE} 512
        idle 4096 512
        update
        settle 100
        stale
        update
        settle 1
        unheard
    """
    said = run_host(script, server.home, folder)
    assert said.all("problem") == [""] * 4
    untouched, edited, updated, heard_again, left = map(extents, said.all("stale"))
    assert untouched == []
    assert edited == [pages(EDIT.start, EDIT.stop)]
    assert updated == heard_again == [], "what was updated is not what plays"
    (tmp_path / "captured").mkdir()
    (tmp_path / "changed").mkdir()
    as_captured = bounce(server, audio["captured"], RATE, tmp_path / "captured")
    as_changed = bounce(server, audio["changed"], RATE, tmp_path / "changed")
    assert not np.array_equal(as_captured["Bass"], as_changed["Bass"])
    assert_stems(read_buses(folder / "before.wav"), as_captured)
    assert_stems(read_buses(folder / "after.wav"), as_changed)
    partly = (LATER_JUMP + SETTLED) // PAGE * PAGE
    assert left == [(partly, partly + PAGE)], "a page that was not heard from its beginning was said to be updated"
    assert extents(said["unheard"]) == left


def test_a_cancelled_update_leaves_what_was_captured_and_can_be_made_up_for(
    server: RunningServer, songs: tuple[Path, dict[str, Audio]], tmp_path: Path
) -> None:
    folder, audio = songs
    edited_NC = audio["captured"].copy()
    edited_NC[:RATE] *= -0.5  # from where the capture begins
    write_song(folder / "inverted.wav", edited_NC, RATE)
    script = f"""{CAPTURE}
        input inverted.wav
        play 0 {2 * RATE} 512
        idle 4096 512
        update
        cancel
        settle 100
        stale
        update
        settle 100
        stale
        idle 4096 512
        record on
        play 0 {6 * RATE} 512
        write inverted-after.wav
    """
    said = run_host(script, server.home, folder)
    cancelled, updated = map(extents, said.all("stale"))
    assert cancelled == [(PAGE, pages(0, RATE)[1])]
    assert updated == []
    assert_stems(read_buses(folder / "inverted-after.wav"), bounce(server, edited_NC, RATE, tmp_path))
