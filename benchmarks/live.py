"""Minutes of real time through the plugin, with jumps and loops: how many blocks were late?

    make plugin && python -m benchmarks.live --minutes 10 --latency-s 3

A server of its own with the shipped model, the plugin in the console host that the tests use, the example song.
"""

import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import tyro

from benchmarks.serving import serving
from benchmarks.table import machine

ROOT = Path(__file__).parent.parent
SONG = ROOT / "examples" / "stemline_demo.flac"
WARM_UP_S = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    minutes: float = 10.0
    latency_s: float = 3.0
    """One of the plugin's choices."""
    block: int = 512
    build: Path = ROOT / "build" / "plugin"


def transport(seconds: float, song_samples: int, rate: int) -> list[tuple[int, int]]:
    """(position, samples) of one run of the playhead after another: whole songs, loops of 2 to 6 s, jumps anywhere."""
    rng = np.random.default_rng(0)
    runs: list[tuple[int, int]] = []
    left = round(seconds * rate)
    while left > 0:
        position, samples = 0, song_samples
        times = 1
        if rng.random() < 0.6:
            samples = int(rng.integers(2 * rate, 6 * rate))
            position = int(rng.integers(0, song_samples - samples))
            times = int(rng.integers(1, 5))
        for _ in range(times):
            runs.append((position, min(samples, left)))
            left -= runs[-1][1]
            if left <= 0:
                break
    return runs


def script(song: Path, rate: int, block: int, latency_s: float, runs: list[tuple[int, int]]) -> str:
    lines = ["load direct", f"param Live latency = {latency_s:g} s", f"prepare {rate} {block}", f"input {song}"]
    lines += ["pace on", f"play 0 {WARM_UP_S * rate} {block}", "timing"]
    lines += [f"play {position} {samples} {block}" for position, samples in runs]
    return "\n".join([*lines, "timing", ""])


def main(arguments: Arguments) -> None:
    host = arguments.build / "tests" / "stemline_host"
    if not host.exists():
        raise SystemExit(f"{host} is missing: run `make plugin` first")
    song_NC, rate = soundfile.read(SONG, dtype="float32")
    runs = transport(60 * arguments.minutes, len(song_NC), rate)
    with tempfile.TemporaryDirectory() as folder:
        song = Path(folder) / "song.wav"
        soundfile.write(song, song_NC, rate, subtype="FLOAT")
        environment = os.environ | {"STEMLINE_HOME": folder, "STEMLINE_NO_AUTOSTART": "1"}
        with serving(Path(folder)):
            commands = script(song, rate, arguments.block, arguments.latency_s, runs)
            done = subprocess.run(
                [str(host), "-"], input=commands, env=environment, capture_output=True, text=True, check=True
            )
    warm, end = (answer for line in done.stdout.splitlines() if "late_blocks" in (answer := json.loads(line)))
    blocks, late = end["blocks"] - warm["blocks"], end["late_blocks"] - warm["late_blocks"]
    print(machine())
    print(
        f"{arguments.minutes:g} min in {len(runs)} runs of the playhead, blocks of {arguments.block}, "
        f"latency {arguments.latency_s:g} s: {late} of {blocks} blocks late; "
        f"processBlock median {100 * end['median']:.2f} %, longest {100 * end['max']:.0f} % of a block"
    )
    raise SystemExit(1 if late else 0)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
