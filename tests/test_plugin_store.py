"""The capture store: it keeps to the size and the folder in the settings, and loses nothing by either."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
from plugin_support import Audio, read_buses, run_host, write_song
from service_support import RunningServer, song

RATE = 44100
OLD_BYTES = 600_000_000  # sparse: they take no room


def set_limit(home: Path, gigabytes: float) -> None:
    (home / "config").mkdir(parents=True, exist_ok=True)
    (home / "config" / "plugin.xml").write_text(f'<stemline cacheCapGb="{gigabytes}"/>')


def add_old_objects(home: Path) -> list[Path]:
    folder = home / "captures" / "source"
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{digit * 64}.f32" for digit in "abc"]
    for path in paths:
        with path.open("wb") as file:
            file.truncate(OLD_BYTES)
    return paths


def test_what_is_over_the_limit_goes_and_what_is_in_use_stays(server: RunningServer, tmp_path: Path) -> None:
    write_song(tmp_path / "song.wav", song(2.0), RATE)
    old = add_old_objects(server.home)
    capture = f"load direct\nparam Mode = Captured\nprepare {RATE} 512\ndrop song.wav\nsettle 100\n"

    set_limit(server.home, 5)
    said = run_host(capture + "trim\nsleep 0.5\n", server.home, tmp_path)
    assert said["problem"] == ""
    assert all(path.exists() for path in old)

    set_limit(server.home, 1)
    run_host("load direct\ntrim\nsleep 0.5\n", server.home, tmp_path)  # as when the limit is lowered
    assert sum(path.exists() for path in old) == 1

    add_old_objects(server.home)
    run_host(capture.replace("song.wav", "other.wav"), server.home, write_other(tmp_path))
    assert sum(path.exists() for path in old) == 1, "something was added, and nothing went for it"

    used = capture + f"trim everything\nsleep 0.5\nrecord on\nplay 0 {2 * RATE} 512\nwrite out.wav\nlost\n"
    said = run_host(used, server.home, tmp_path)
    assert said["lost"] == 0
    assert not any(path.exists() for path in old)
    assert [path for path in (server.home / "captures" / "stems").iterdir() if path.is_dir()]


def write_other(folder: Path) -> Path:
    write_song(folder / "other.wav", 0.5 * song(2.0), RATE)
    return folder


LOAD = f"load direct\nparam Mode = Captured\nprepare {RATE} 512\n"
HEAR = f"record on\nplay 0 {2 * RATE} 512\nwrite heard.wav\nlost\n"
CHOOSE = "ui open\nui click settings\nui click set.choose\n"


def chosen_folder(home: Path) -> str:
    return ElementTree.parse(home / "config" / "plugin.xml").getroot().get("cacheFolder", "")


def heard(folder: Path) -> dict[str, Audio]:
    return read_buses(folder / "heard.wav")


def sources(store: Path) -> set[str]:
    return {path.name for path in (store / "source").glob("*.f32")}


def test_captures_move_to_the_folder_that_is_chosen_and_earlier_ones_go_on_playing(
    server: RunningServer, tmp_path: Path
) -> None:
    home, disk = server.home, tmp_path / "disk"
    (home / "config" / "plugin.xml").unlink(missing_ok=True)
    disk.mkdir()
    (disk / "stems").mkdir()  # somebody's own
    (disk / "stems" / "mine.wav").write_text("not ours")
    for seed, name in enumerate(("before", "after"), 5):
        write_song(tmp_path / f"{name}.wav", song(2.0, seed=seed), RATE)

    run_host(f"{LOAD}drop before.wav\nsettle 100\nsave before.state\n{HEAR}", home, tmp_path)
    before = heard(tmp_path)
    old = sources(home / "captures")
    script = f"{LOAD}{CHOOSE}ui file disk\nsleep 0.5\nui see set.cache_path\ndrop after.wav\nsettle 100\n"
    said = run_host(f"{script}{HEAR}ui click settings\nui click set.clear\nui menu 2\n", home, tmp_path, screen=True)
    store = disk / "Stemline captures"
    assert said["problem"] == ""
    assert said["seen"]["text"] == chosen_folder(home) == str(store)
    assert len(sources(store)) == 1
    assert sources(home / "captures") == old, "what was captured before was touched"
    after = heard(tmp_path)
    assert not np.array_equal(before["Bass"], after["Bass"])

    # Another host, on another day: the new folder is the one, and the project of before finds its stems in the old one.
    said = run_host(f"{LOAD}open before.state\nsettle 20\n{HEAR}", home, tmp_path)
    assert (said["problem"], said["lost"]) == ("", 0)
    assert all(np.array_equal(heard(tmp_path)[bus], audio_NC) for bus, audio_NC in before.items())
    assert len(sources(store)) == 1

    # "Clear": both of them, once it was asked for, and nothing of the user's own.
    run_host(
        f"{LOAD}ui open\nui click settings\nui click set.clear\nui menu 1\nsleep 0.5\n", home, tmp_path, screen=True
    )
    assert sources(store) | sources(home / "captures") == set()
    assert (disk / "stems" / "mine.wav").exists()

    # And back.
    run_host(f"{LOAD}{CHOOSE}ui menu 2\nsleep 0.5\n", home, tmp_path, screen=True)
    assert chosen_folder(home) == ""


def test_a_folder_that_cannot_be_written_is_not_taken_and_the_editor_says_why(
    server: RunningServer, tmp_path: Path
) -> None:
    (server.home / "config" / "plugin.xml").unlink(missing_ok=True)
    said = run_host(
        f"{LOAD}{CHOOSE}ui file /proc\nsleep 0.5\nui see set.cache_path\n", server.home, tmp_path, screen=True
    )
    assert said["seen"]["text"] == str(server.home / "captures")
    assert "nothing can be written there" in said["seen"]["tooltip"]
    assert "/proc/Stemline captures" in said["seen"]["tooltip"]
    assert not (server.home / "config" / "plugin.xml").exists()


def test_where_the_chosen_folder_has_gone_a_capture_says_so_and_what_lies_elsewhere_plays(
    server: RunningServer, tmp_path: Path
) -> None:
    home = server.home
    (home / "config" / "plugin.xml").unlink(missing_ok=True)
    write_song(tmp_path / "kept.wav", song(2.0, seed=9), RATE)
    run_host(f"{LOAD}drop kept.wav\nsettle 100\nsave kept.state\n{HEAR}", home, tmp_path)
    before = heard(tmp_path)
    (tmp_path / "unplugged").write_text("a file, so no folder can be made in it, not even by root")
    gone = tmp_path / "unplugged" / "Stemline captures"
    (home / "config" / "plugin.xml").write_text(f'<stemline cacheFolder="{gone}"/>')
    script = f"{LOAD}open kept.state\nsettle 20\n{HEAR}capture\nsettle 1\nui open\nui see error\n"
    said = run_host(script, home, tmp_path, screen=True)
    assert said["lost"] == 0
    assert all(np.array_equal(heard(tmp_path)[bus], audio_NC) for bus, audio_NC in before.items())
    assert str(gone) in said["problem"]
    assert "choose another folder in the settings" in said["seen"]["name"]
    (home / "config" / "plugin.xml").unlink()


def test_captured_sound_that_is_nowhere_is_missed_aloud(server: RunningServer, tmp_path: Path) -> None:
    home = server.home
    (home / "config" / "plugin.xml").unlink(missing_ok=True)
    write_song(tmp_path / "lost.wav", song(2.0, seed=10), RATE)
    run_host(f"{LOAD}drop lost.wav\nsettle 100\nsave lost.state\n", home, tmp_path)
    run_host("load direct\ntrim everything\nsleep 0.5\n", home, tmp_path)
    script = f"{LOAD}open lost.state\nsettle 2\nlost\nui open\nui see error\nui click error.restart\nui see error\n"
    said = run_host(script, home, tmp_path, screen=True)
    assert said["lost"] == 1
    shown, closed = said.all("seen")
    assert shown["name"].startswith("Captured sound is missing. 0:00–0:02: not in ")
    assert not closed["shown"]
