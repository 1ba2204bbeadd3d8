"""Every control of the editor does what it says, in the running plugin: pressed, dragged and typed into under Xvfb."""

import contextlib
import socket
import sys
import threading
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import psutil
import pytest
import soundfile
from plugin_support import STEMS, HostRun, run_host, write_song
from service_support import RunningServer, running_server, song

RATE = 44100
OPEN = f"load direct\nprepare {RATE} 512\nui open\n"


@pytest.fixture(autouse=True)
def _own_settings(server: RunningServer) -> None:
    (server.home / "config" / "plugin.xml").unlink(missing_ok=True)


def settings(home: Path) -> dict[str, str]:
    return dict(ElementTree.parse(home / "config" / "plugin.xml").getroot().attrib)


def hands(server: RunningServer, folder: Path, script: str, begin: str = OPEN) -> HostRun:
    return run_host(begin + script, server.home, folder, screen=True)


def test_faders_toggles_and_choices_move_their_parameters(server: RunningServer, tmp_path: Path) -> None:
    said = hands(
        server,
        tmp_path,
        """
        server 20 Ready
        ui drag bass.gain -20
        show Bass gain
        ui double bass.gain
        show Bass gain
        ui key return on bass.gain
        ui type bass.gain.value -4.5
        ui key return on bass.gain.value
        show Bass gain
        ui click drums.solo
        show Drums solo
        ui click bass.solo ctrl
        show Drums solo
        show Bass solo
        ui click piano.mute
        show Piano mute
        ui key 0
        show Bass solo
        ui key cursor right on refiner_steps
        show Refiner steps
        ui choose latency_choice 0
        show Live latency
        ui choose main_output 2
        show Main output
        ui click settings
        ui type set.seed 77
        ui key return on set.seed
        show Seed
        ui key escape on set.seed
        ui see settings_sheet
        """,
    )
    dragged, reset, typed, *toggles, steps, latency, main, seed = said.all("value")
    assert -40 < float(dragged) < -3
    assert (reset, typed) == ("0.0", "-4.5")
    assert toggles == ["On", "Off", "On", "On", "Off"]
    assert (steps, main, seed) == ("2", "Bass", "77")
    assert float(latency.removesuffix(" s")) < 1
    assert not said["seen"]["shown"]


def test_what_a_user_sets_is_kept_and_another_editors_choice_is_not_undone(
    server: RunningServer, tmp_path: Path
) -> None:
    (server.home / "config").mkdir(exist_ok=True)
    path = server.home / "config" / "plugin.xml"
    begin = f"load direct\nprepare {RATE} 512\nui open\nui click settings\nui choose set.cache_limit 0\n"
    hands(server, tmp_path, "", begin)
    assert float(settings(server.home)["cacheCapGb"]) == 5
    assert settings(server.home)["startAutomatically"] == "1", "the environment's wish became the user's"
    waiting = f"{OPEN}sleep 3\nui click settings\nui click set.light\n"
    other = threading.Timer(1.5, lambda: path.write_text('<stemline cacheCapGb="50" cacheFolder="/elsewhere"/>'))
    other.start()
    hands(server, tmp_path, "", waiting)
    other.join()
    kept = settings(server.home)
    assert (kept["cacheCapGb"], kept["cacheFolder"], kept["light"]) == ("50.0", "/elsewhere", "1")
    path.unlink()


def test_capture_and_a_dropped_file_go_to_captured_mode(server: RunningServer, tmp_path: Path) -> None:
    write_song(tmp_path / "song.wav", song(2.0), RATE)
    script = f"""
        input song.wav
        ui click capture
        show Mode
        sleep 1
        ui see capture
        play 0 {2 * RATE} 512
        idle 4096 512
        settle 100
        ui see ruler
        param Mode = Live
        idle 4096 512
        ui drop song.wav
        show Mode
        settle 100
        ui see bass.drag
    """
    said = hands(server, tmp_path, script)
    assert said.all("value") == ["Captured", "Captured"]
    assert said.all("problem") == ["", ""]
    capture, ruler, drag = said.all("seen")
    assert capture["name"] == "Cancel, 0 percent"
    assert ruler["name"] == "Timeline, captured 0:00 to 0:02, 0 stale"
    assert drag["enabled"]


def test_what_is_no_sound_is_refused_by_name(server: RunningServer, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no sound")
    said = hands(server, tmp_path, "ui drop notes.txt\nsleep 0.5\nui see error\nui see error.retry\n")
    error, _ = said.all("seen")
    assert error["name"].startswith("Cannot read notes.txt. It is not a sound file that can be captured. No change.")


def test_stems_are_saved_exported_and_never_written_over(server: RunningServer, tmp_path: Path) -> None:
    write_song(tmp_path / "song.wav", song(2.0), RATE)
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "bass.wav").write_text("another song's")
    script = """
        ui drop song.wav
        settle 100
        ui key return on bass.drag
        ui file saved.wav
        ui click export_all
        ui file out
        sleep 1
        ui key ctrl + e
        ui file out/Stems
        sleep 1
        ui see error
    """
    said = hands(server, tmp_path, script)
    assert not said["seen"]["shown"]
    stems = {f"{stem}.wav" for stem in STEMS if stem != "vocals"}  # the model's
    assert (folder / "bass.wav").read_text() == "another song's"
    assert {path.name for path in (folder / "Stems").glob("*.wav")} == stems
    assert {path.name for path in (folder / "Stems" / "Stems").iterdir()} == stems
    saved, exported = (soundfile.read(path)[0] for path in (tmp_path / "saved.wav", folder / "Stems" / "bass.wav"))
    assert saved.shape == (2 * RATE, 2)
    assert (saved == exported).all()
    assert not list(tmp_path.glob(".stemline-*"))


def test_an_export_that_fails_says_so_until_it_is_closed(server: RunningServer, tmp_path: Path) -> None:
    write_song(tmp_path / "song.wav", song(2.0), RATE)
    script = """
        ui drop song.wav
        settle 100
        ui click export_all
        ui file /proc
        sleep 0.5
        ui see error
        ui see error.retry
        ui click error.retry
        ui see error
    """
    shown, button, closed = hands(server, tmp_path, script).all("seen")
    assert shown["name"].startswith("That did not work. ")
    assert "/proc" in shown["name"]
    assert (button["name"], closed["shown"]) == ("Close", False)


def test_another_computer_without_a_token_leads_to_the_settings(server: RunningServer, tmp_path: Path) -> None:
    script = """
        ui click settings
        ui key cursor right on set.where
        ui type set.address studio.example:7000
        ui click set.test
        sleep 1
        ui see set.test
        ui see set.device
        ui key escape
        ui see error
        ui see error.retry
        ui click error.retry
        ui see settings_sheet
    """
    test, device, error, button, sheet = hands(server, tmp_path, script).all("seen")
    assert "needs TLS and a token" in test["tooltip"], "the address that was typed is not what was tested"
    assert not device["enabled"]
    assert error["name"].startswith("Another computer needs TLS and a token.")
    assert button["name"] == "Settings"
    assert sheet["shown"]
    assert settings(server.home)["address"] == "studio.example:7000"


def test_the_settings_test_an_address_with_its_token_and_authority(
    tiny_model_dir: Path, server: RunningServer, tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    cert, key = certificate
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--listen", f"0.0.0.0:{port}", "--tls-cert", str(cert), "--tls-key", str(key)]
    with running_server(tmp_path / "studio", tiny_model_dir, *options) as studio:
        script = f"""
            ui click settings
            ui key cursor right on set.where
            ui type set.address localhost:{port}
            ui type set.ca_file {cert}
            ui type set.token_file {studio.home / "run" / "token"}
            ui click set.test
            sleep 2
            ui see set.test
            ui key escape
            server 20 Ready
        """
        said = hands(server, tmp_path, script)
    assert said["seen"]["tooltip"].startswith("Connected. ")
    assert said["server"].startswith("Ready")


def test_the_chips_menu_and_the_wheel_do_what_they_say(server: RunningServer, tmp_path: Path) -> None:
    script = """
        server 20 Ready
        ui key return on server_chip
        ui menu 3
        ui see settings_sheet
        ui click settings.close
        ui see settings_sheet
        ui wheel ruler 0.5
        ui wheel ruler 1 ctrl
        ui drag source.lane 0 right
        ui shoot editor.png
    """
    opened, closed = hands(server, tmp_path, script).all("seen")
    assert opened["shown"]
    assert not closed["shown"]
    assert (tmp_path / "editor.png").stat().st_size > 10_000


def servers_of(home: Path) -> list[psutil.Process]:
    """That run now for the user whose files lie in `home`."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if "pyserver" in process.cmdline() and process.environ().get("STEMLINE_HOME") == str(home):
                found.append(process)
    return found


def test_the_start_button_starts_a_server_and_the_device_menu_restarts_it_on_what_was_chosen(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    script = """
        ui see welcome.start
        server 1 Server
        ui click welcome.start
        server 120 Ready
        ui see welcome
        ui click settings
        ui see set.device
        ui choose set.device 1
        sleep 3
        server 120 Ready
    """
    environment = {"STEMLINE_PYTHON": sys.executable, "STEMLINE_MODELS": str(tiny_model_dir)}
    try:
        said = run_host(OPEN + script, home, tmp_path, screen=True, **environment)
        (server,) = servers_of(home)  # the first was asked to end
        command = server.cmdline()
    finally:
        for process in servers_of(home):
            process.terminate()
            process.wait(20)
    start, welcome, devices = said.all("seen")
    assert (start["name"], start["shown"], welcome["shown"]) == ("Start server", True, False)
    assert [text.split(" · ")[0] for text in said.all("server")] == ["Server stopped", "Ready", "Ready"]
    assert devices["items"][0] == "Automatic"
    assert "(CPU)" in devices["items"][1]
    assert command[-1] == "--cpu"
    assert settings(home)["device"] == "cpu"
