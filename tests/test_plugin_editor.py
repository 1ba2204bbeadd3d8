"""The editor's places, names, keys and pictures, as designed."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from plugin_support import BUILD, built

DESIGN = json.loads((Path(__file__).parent / "editor_geometry.json").read_text())
SHOWN = {"1": "idle", "3": "capturing", "4": "captured", "5a": "server-lost", "6": "captured", "7": "settings"}
STATES = ("idle", "live", "capturing", "captured", "server-lost", "model-missing", "settings", "light")
BANNERS = ("late", "getting-model", "partly-updated")
DRAWN_ONLY = {"logo"}  # no control, so it has no place to ask for

Shot = dict[str, Any]


def run_shots(argument: str) -> subprocess.CompletedProcess[str]:
    program = built(BUILD / "tests" / "stemline_editor_shots")
    command = ["xvfb-run", "-a", str(program), argument]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def shots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Shot]:
    folder = tmp_path_factory.mktemp("editor")
    done = run_shots(str(folder))
    assert done.returncode == 0, done.stderr
    return {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}


def names(shot: Shot) -> dict[str, str]:
    return {identity: component["name"] for identity, component in shot["components"].items()}


@pytest.mark.parametrize("picture", [key for key in DESIGN if key != "about"])
def test_everything_is_where_the_design_has_it(shots: dict[str, Shot], picture: str) -> None:
    which, size = picture.split(",")[0].split()
    components = shots[f"{SHOWN[which.split('-')[0]]}-{size}"]["components"]
    found = {identity: components.get(identity, {}).get("box") for identity in DESIGN[picture]}
    assert {**found, **{drawn: DESIGN[picture][drawn] for drawn in DRAWN_ONLY & found.keys()}} == DESIGN[picture]


def test_nothing_moves_between_live_and_capturing(shots: dict[str, Shot]) -> None:
    live, capturing = (shots[f"{state}-960x600"]["components"] for state in ("live", "capturing"))
    for control in ("latency_choice", "main_output", "capture", "export_all", "settings", "mode", "model"):
        assert live[control]["box"] == capturing[control]["box"]


def test_every_control_has_its_accessible_name(shots: dict[str, Shot]) -> None:
    captured, capturing = names(shots["captured-960x600"]), names(shots["capturing-960x600"])
    assert captured["bass.gain"] == "Bass gain, −3.0 decibels"
    assert captured["bass.solo"] == "Solo bass"
    assert captured["bass.mute"] == "Mute bass"
    assert captured["bass.drag"] == "Drag bass to the DAW"
    assert captured["bass.meter"] == "Bass level"
    assert captured["mode"] == "Mode"
    assert captured["model"] == "Model"
    assert captured["refiner_steps"] == "Refiner steps"
    assert captured["server_chip"] == "Server: Ready · NVIDIA RTX 4070 · 38 ms"
    assert captured["latency_choice"] == "Live latency"
    assert captured["late_blocks"] == "Late blocks, 0"
    assert captured["main_output"] == "Main output"
    assert captured["capture"] == "Capture"
    assert capturing["capture"] == "Cancel, 62 percent"
    assert captured["export_all"] == "Export all stems"
    assert captured["settings"] == "Settings"
    assert captured["ruler"] == "Timeline, captured 0:04 to 1:10, 1 stale"


def test_whatever_the_keyboard_reaches_says_its_name_and_what_it_does(shots: dict[str, Shot]) -> None:
    for picture, shot in shots.items():
        for identity in set(shot["tab"]) - {"settings_sheet"}:  # which only holds controls
            control = shot["components"][identity]
            assert control["name"], f"{identity} of {picture} has no name"
            assert control.get("tooltip"), f"{identity} of {picture} explains nothing"


def test_an_error_says_what_happened_what_is_heard_and_what_to_do(shots: dict[str, Shot]) -> None:
    assert names(shots["server-lost-960x600"])["error"] == (
        "Server lost. The server stopped answering at 0:44: connection refused. "
        "Your track, unchanged, in the Residual stem. Other stems are silent. Timing stays the same. "
        "It reconnects by itself. If it keeps failing, restart it."
    )


def test_late_blocks_offer_a_longer_latency(shots: dict[str, Shot]) -> None:
    late = shots["late-960x600"]
    assert names(late)["error"] == (
        "12 blocks were late. The stems came after their time. There: your track, unchanged, in the Residual stem. "
        "Choose a longer latency. It takes effect when you stop."
    )
    assert names(late)["error.retry"] == "Longer latency"
    assert names(late)["error.restart"] == "Close"


def test_a_download_shows_how_far_it_is(shots: dict[str, Shot]) -> None:
    getting = names(shots["getting-model-960x600"])
    assert getting["error"].startswith("Getting model “Studio”. 180 MB of 420 MB. ")
    assert getting["error.retry"] == "Cancel"


def test_tab_goes_from_the_top_bar_through_the_lanes_to_the_bottom_bar(shots: dict[str, Shot]) -> None:
    stems = ("drums", "bass", "vocals", "other", "residual")
    lanes = [f"{stem}.{control}" for stem in stems for control in ("gain", "solo", "mute")]
    top, bottom = ["mode", "model", "refiner_steps", "server_chip"], ["latency_choice", "main_output", "capture"]
    assert shots["live-960x600"]["tab"] == [*top, *lanes, *bottom, "settings"]


def test_a_model_that_lacks_a_stem_leaves_its_lane_out(shots: dict[str, Shot]) -> None:
    live = shots["live-960x600"]["components"]
    assert "guitar.lane" not in live
    assert "other.lane" in live


def test_what_cannot_be_used_is_off_and_says_why(shots: dict[str, Shot]) -> None:
    capturing, captured = (shots[f"{state}-960x600"]["components"] for state in ("capturing", "captured"))
    assert not capturing["drums.drag"]["enabled"]
    assert capturing["drums.drag"]["tooltip"] == "Capture a region first."
    assert captured["drums.drag"]["enabled"]
    assert not captured["latency_choice"]["enabled"]


@pytest.mark.parametrize("state", [*STATES, *BANNERS])
def test_every_state_is_drawn_in_each_size(shots: dict[str, Shot], state: str) -> None:
    sizes = {"960x600": [960, 600], "720x460": [720, 460], "960x600@2x": [1920, 1200]}
    for name, size in sizes.items():
        shot = shots[f"{state}-{name}"]
        assert shot["size"] == size
        assert shot["colours"] > 100, "an empty picture has one colour"


@pytest.mark.parametrize("size", ["960x600", "720x460"])
def test_no_two_controls_of_a_bar_or_lane_overlap(shots: dict[str, Shot], size: str) -> None:
    for state in STATES[:6]:
        components = shots[f"{state}-{size}"]["components"]
        boxes = {name: shot["box"] for name, shot in components.items() if name in shots[f"{state}-{size}"]["tab"]}
        boxes = {name: box for name, box in boxes.items() if not name.startswith(("server_", "welcome"))}
        for one, (x, y, w, h) in boxes.items():
            for other, (left, top, width, height) in boxes.items():
                apart = x + w <= left or left + width <= x or y + h <= top or top + height <= y
                assert one == other or apart, f"{one} and {other} overlap in {state}"


def test_keys_do_what_they_say_and_leave_the_rest_to_the_host() -> None:
    done = run_shots("--keys")
    assert done.returncode == 0, done.stderr
