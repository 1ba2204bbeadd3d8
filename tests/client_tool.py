"""The plugin's client on the command line, as a process that tests talk to."""

import json
import queue
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from plugin_support import BUILD, STEMS, Audio, built, host_environment
from service_support import RunningServer, ended, song, stems_of, submit
from stems.v1 import audio_pb2

from pyserver.service.channel import connect

TOOL = BUILD / "tests" / "client" / "stemline_client_tool"
NEEDS_TOOL = [  # the pytestmark of modules that use it
    pytest.mark.timeout(400),
    pytest.mark.skipif(not TOOL.exists(), reason="the plugin is not built: `make plugin`"),
]
LIMIT_S = 120.0  # for whatever has to happen in the end; machines are busy
MODEL_STEMS = ("bass", "drums", "guitar", "piano", "other")
FOREVER = ("--seconds", "900")  # until it is told to quit
# No latency is promised, so a busy machine cannot refuse it; what is tested is not how fast it is.
UNHURRIED = ("--offline", "--paced")
STOPPED, STARTING, READY, LOST, UNTRUSTED, REFUSED = 0, 1, 4, 6, 7, 8
BOUNCED, FAILED, CANCELLED = 5, 6, 7


class Tool:
    """A running command; what it says comes as dictionaries, each with its `event`."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [str(built(TOOL)), *command],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said: list[dict[str, Any]] = []
        self._lines: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(json.loads(line))
        self._lines.put(None)

    def tell(self, command: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def wait_for(self, event: str, **fields: object) -> dict[str, Any]:
        """The next thing it says with this event and these fields."""
        until = time.monotonic() + LIMIT_S
        while time.monotonic() < until:
            try:
                line = self._lines.get(timeout=1)
            except queue.Empty:
                continue
            assert line is not None, f"it ended without {event} {fields}; it said {self.said[-5:]}"
            self.said.append(line)
            if line["event"] == event and all(line.get(key) == value for key, value in fields.items()):
                return line
        raise AssertionError(f"no {event} {fields} within {LIMIT_S} s; it said {self.said[-5:]}")

    def end(self) -> dict[str, Any]:
        """What it says at its end."""
        return self.wait_for("end")

    def finish(self) -> int:
        code = self.process.wait(LIMIT_S)
        self._reader.join()
        while (line := self._lines.get()) is not None:
            self.said.append(line)
        return code

    def states(self) -> list[Any]:
        return [line.get("state") for line in self.said if line["event"] == "state"]


@contextmanager
def running_tool(command: str, home: Path, *options: str, **environment: str) -> Iterator[Tool]:
    tool = Tool([command, *options], host_environment(home, **environment))
    try:
        yield tool
    finally:
        tool.process.kill()
        tool.process.wait()


def write_input(path: Path, song_NC: Audio) -> Path:
    song_NC.astype("<f4").tofile(path)
    return path


def read_bus(folder: Path, name: str, channels: int = 2) -> Audio:
    return np.fromfile(folder / f"{name}.f32", "<f4").reshape(-1, channels)


def sum_of_buses(folder: Path, channels: int = 2) -> npt.NDArray[np.float64]:
    total_NC: npt.NDArray[np.float64] = np.sum(
        [read_bus(folder, stem, channels) for stem in STEMS], axis=0, dtype=np.float64
    )
    return total_NC


def play(server_home: Path, folder: Path, seconds: float, *options: str, **environment: str) -> Any:
    """A host in real time, in which `seconds` of a song are played, and silence after it where that is asked for."""
    write_input(folder / "in.f32", song(seconds))
    files = ("--in", str(folder / "in.f32"), "--out", str(folder), "--latency-s", "3", "--when-ready")
    return running_tool("live", server_home, *files, *options, **environment)


def bounce(server_home: Path, folder: Path, song_NC: np.ndarray, *options: str, **environment: str) -> Any:
    write_input(folder / "song.f32", song_NC)
    files = ("--in", str(folder / "song.f32"), "--out", str(folder / "stems"), "--seed", "7")
    return running_tool("bounce", server_home, *files, "--id", str(uuid.uuid4()), *options, **environment)


async def bounced(server: RunningServer, song_NC: np.ndarray, **quality: int) -> dict[str, bytes]:
    """What Python's client gets of a bounce."""
    async with await connect(server.target) as client:
        job = await submit(client, song_NC, quality=audio_pb2.Quality(**quality))
        return await stems_of(client, await ended(client, job.job_id))
