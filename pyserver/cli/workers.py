"""Workers: each has a server of its own, started once, and takes one song after the other through it."""

import contextlib
import math
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil
from rich.progress import Progress

import pyserver
from pyserver.cli.client import own_server
from pyserver.cli.places import AnyPath
from pyserver.cli.song_bounce import Settings, Work, bounce_into, prepared
from pyserver.cli.songs import Song
from pyserver.errors import StemlineError
from pyserver.service.instance import ServerAlreadyRunning, only_instance

_HOME_PREFIX = "stemline-worker-"
_YOUNG_S = 600.0


class WorkerLost(StemlineError):
    """A worker is gone, and with it whatever it was doing; that can be done again by another."""

    reason = "WORKER_LOST"


@dataclass(frozen=True, slots=True, kw_only=True)
class Skill:
    """What a worker makes. Stems of workers that differ in this may differ."""

    version: str
    model: str
    weights_sha256: str
    stems: tuple[str, ...]  # those that were asked for


class Worker(Protocol):
    """Does one song at a time. Raises what is wrong with the song, or with itself."""

    @property
    def skill(self) -> Skill: ...

    async def separate(self, song: Song, parts: AnyPath, progress: Progress) -> list[str]:
        """Names of the song's finished files in the folder `parts`."""
        ...


class Crew(Protocol):
    """Where workers come from."""

    async def posts(self) -> list[str]:
        """Where there can be a worker now, by names that a person understands. Raises if there can never be one."""
        ...

    def worker(self, post: str) -> contextlib.AbstractAsyncContextManager[Worker]:
        """Starts a worker there and stops it in the end. Raises why it could not start."""
        ...


class ServerWorker:
    """A worker of this process; `Work` is its own server's."""

    def __init__(self, work: Work) -> None:
        self._work = work

    @property
    def skill(self) -> Skill:
        model = self._work.model
        return Skill(
            version=pyserver.__version__,
            model=model.name,
            weights_sha256=model.weights_sha256,
            stems=self._work.stems,
        )

    async def separate(self, song: Song, parts: AnyPath, progress: Progress) -> list[str]:
        return await bounce_into(self._work, song, parts, progress, song.source.name)


@asynccontextmanager
async def server_worker(device: Sequence[str], settings: Settings) -> AsyncIterator[ServerWorker]:
    """With a server of its own on `device`, which is what `serve` is told. Raises as `own_server`."""
    with _scratch_home() as home:
        async with own_server(device, settings.model, home) as connection:
            yield ServerWorker(await prepared(connection, settings, home))


class LocalCrew:
    """Workers on this machine, one on each of `devices`: by their names, what `serve` is told."""

    def __init__(self, devices: dict[str, Sequence[str]], settings: Settings) -> None:
        self._devices, self._settings = devices, settings

    async def posts(self) -> list[str]:
        return list(self._devices)

    def worker(self, post: str) -> contextlib.AbstractAsyncContextManager[Worker]:
        return server_worker(self._devices[post], self._settings)


def gpu_devices(indices: Sequence[int]) -> dict[str, Sequence[str]]:
    return {f"GPU {index}": ("--gpu", str(index)) for index in indices}


def cpu_devices(workers: int) -> dict[str, Sequence[str]]:
    """The physical cores of this machine, shared out."""
    cores = psutil.cpu_count(logical=False) or psutil.cpu_count() or 1
    threads = str(max(1, math.floor(cores / workers)))
    return {f"worker {number}": ("--cpu", "--threads", threads) for number in range(1, workers + 1)}


@contextmanager
def _scratch_home() -> Iterator[Path]:
    """A home for a server, on this machine's own disk, as long as its worker lives; those of killed workers go."""
    for left in Path(tempfile.gettempdir()).glob(f"{_HOME_PREFIX}*"):
        with contextlib.suppress(ServerAlreadyRunning, OSError):
            if time.time() - left.stat().st_mtime > _YOUNG_S:
                with only_instance(left / "state"):
                    shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix=_HOME_PREFIX, ignore_cleanup_errors=True) as home:
        yield Path(home)
