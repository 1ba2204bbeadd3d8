"""The capture store's size limit: what the settings say is what it keeps to, and what is in use is not deleted."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from plugin_support import run_host, write_song
from service_support import RunningServer, running_server, song

RATE = 44100
OLD_BYTES = 600_000_000  # sparse: they take no room


@pytest.fixture(scope="module")
def server(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("store") / "home", tiny_model_dir) as running:
        yield running


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
