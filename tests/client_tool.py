"""The plugin's client on the command line, as a process that tests talk to."""

import json
import queue
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from plugin_support import BUILD, STEMS, Audio, built, host_environment

TOOL = BUILD / "tests" / "client" / "stemline_client_tool"
LIMIT_S = 120.0  # for whatever has to happen in the end; machines are busy


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
