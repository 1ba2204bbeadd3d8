"""The plugin's binaries, and the console host that does what a script says."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

BUILD = Path(os.environ.get("STEMLINE_PLUGIN_BUILD", Path(__file__).parent.parent / "build" / "plugin"))
STEMS = ("drums", "bass", "guitar", "piano", "vocals", "other", "residual")
BUSES = ("Main", "Drums", "Bass", "Guitar", "Piano", "Vocals", "Other", "Residual")
LATENCY_S = 3.0  # the plugin's default

Audio = npt.NDArray[np.float32]


def built(path: Path) -> Path:
    assert path.exists(), f"{path} is missing: run `make plugin` first (`make test` does)"
    return path


def bundle() -> Path:
    return built(BUILD / "Stemline_artefacts" / "Release" / "VST3" / "Stemline.vst3")


def lv2_bundle() -> Path:
    return built(BUILD / "Stemline_artefacts" / "Release" / "LV2" / "Stemline.lv2")


@dataclass
class HostRun:
    """What a script said, one object for each command that answers, and how it ended."""

    answers: list[dict[str, Any]]
    errors: str

    def __getitem__(self, key: str) -> Any:
        """The last answer with `key`."""
        return next(answer[key] for answer in reversed(self.answers) if key in answer)

    def all(self, key: str) -> list[Any]:
        return [answer[key] for answer in self.answers if key in answer]


def host_environment(home: Path, **more: str) -> dict[str, str]:
    """As the plugin would find it in a DAW of a user whose files lie in `home`. Nothing starts a server by itself."""
    return os.environ | {"STEMLINE_HOME": str(home), "STEMLINE_NO_AUTOSTART": "1"} | more


def run_host(
    script: str,
    home: Path,
    folder: Path,
    *,
    checked: bool = False,
    screen: bool = False,
    timeout_s: float = 300,
    **environment: str,
) -> HostRun:
    """Runs `script` in `folder`; fails with what the host printed if it does. `checked` preloads the thread checker,
    `screen` gives it a display."""
    program = built(BUILD / "tests" / "stemline_host")
    env = host_environment(home, **environment)
    if checked:
        env["LD_PRELOAD"] = str(built(BUILD / "tests" / "libaudio_thread_check.so"))
    command = [*(["xvfb-run", "-a"] if screen else []), str(program), "-"]
    done = subprocess.run(
        command, input=script, env=env, cwd=folder, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    assert done.returncode == 0, f"the host ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-6000:]}"
    return HostRun([json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")], done.stderr)


def write_song(path: Path, song_NC: Audio, rate: int) -> Path:
    soundfile.write(path, song_NC, rate, subtype="FLOAT")
    return path


def read_buses(path: Path, channels: int = 2) -> dict[str, Audio]:
    """A recording's buses by name, each (samples, channels)."""
    audio_NC, _ = soundfile.read(path, dtype="float32", always_2d=True)
    assert audio_NC.shape[1] == channels * len(BUSES), audio_NC.shape
    return {bus: audio_NC[:, index * channels : (index + 1) * channels] for index, bus in enumerate(BUSES)}


def sum_of_stems(buses: dict[str, Audio]) -> npt.NDArray[np.float64]:
    return np.sum([buses[bus] for bus in BUSES[1:]], axis=0, dtype=np.float64)


def delayed(song_NC: Audio, latency: int, length: int) -> Audio:
    out_NC = np.zeros((length, song_NC.shape[1]), np.float32)
    heard = min(len(song_NC), max(0, length - latency))
    out_NC[latency : latency + heard] = song_NC[:heard]
    return out_NC
