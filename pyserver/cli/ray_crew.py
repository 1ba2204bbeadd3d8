"""Workers on a Ray cluster: an actor on each GPU, or on each node where GPUs are not wanted.

An actor does what `bounce` does on one machine, with a server of its own; so every node needs Stemline, the model, and
access to songs and stems (a shared file system, or an object store). Ray is imported here and nowhere else.
"""

import asyncio
import contextlib
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

from rich.progress import Progress

from pyserver.cli import console
from pyserver.cli.places import AnyPath, PackageMissing
from pyserver.cli.song_bounce import Settings
from pyserver.cli.songs import Song
from pyserver.cli.workers import ServerWorker, Skill, Worker, WorkerLost, server_worker
from pyserver.errors import StemlineError
from pyserver.service.channel import remote_error

_PROBE_S = 5.0
_CANCEL_LIMIT_S = 15.0
_CANCEL_START_LIMIT_S = 5.0  # there may be nobody yet who could hear it
_STOP_LIMIT_S = 30.0
_PATIENCE_S = 20.0


class ClusterUnreachable(StemlineError):
    reason = "CLUSTER_UNREACHABLE"


class NoNodeFits(StemlineError):
    reason = "NO_NODE_FITS"


@dataclass(frozen=True, slots=True)
class _Refusal:
    """A StemlineError on its way from an actor; exceptions do not travel well."""

    reason: str
    message: str
    metadata: dict[str, str]


@dataclass(frozen=True, slots=True)
class _Post:
    node_id: str
    gpus: int  # 1 or 0
    cpus: int  # of the node


class _Actor:
    """What runs on a node: one worker and its server."""

    def __init__(self, device: Sequence[str], settings: Settings) -> None:
        self._device, self._settings = device, settings
        self._duty = contextlib.AsyncExitStack()
        self._worker: ServerWorker | None = None

    async def start(self) -> Skill | _Refusal:
        try:
            self._worker = await self._duty.enter_async_context(server_worker(self._device, self._settings))
        except StemlineError as error:
            return _Refusal(error.reason, str(error), error.metadata)
        return self._worker.skill

    async def separate(self, song: Song, parts: AnyPath) -> list[str] | _Refusal:
        assert self._worker is not None
        try:
            return await self._worker.separate(song, parts, Progress(disable=True))
        except StemlineError as error:
            return _Refusal(error.reason, str(error), error.metadata)

    async def stop(self) -> None:
        await self._duty.aclose()


@contextmanager
def ray_crew(address: str, settings: Settings, *, cpu: bool, limit: int | None) -> Iterator["RayCrew"]:
    """Joins the cluster, and leaves it in the end. Raises PackageMissing, ClusterUnreachable."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.util.scheduling_strategies
    except ImportError as error:
        raise PackageMissing("--ray needs Ray: pip install 'stemline[cluster]'") from error
    _require_listener(address)
    with _results_alone_on_stdout():
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:  # ConnectionError, RuntimeError, its own: whatever it is, there is no cluster for us
            why = str(error.__cause__ or error.__context__ or error).strip().splitlines()[-1:]  # the others: its stack
            raise ClusterUnreachable(
                f"cannot join the Ray cluster at {address}: {''.join(why) or error}", address=address
            ) from error
        try:
            yield RayCrew(ray, settings, cpu=cpu, limit=limit)
        finally:
            ray.shutdown()


@contextmanager
def _results_alone_on_stdout() -> Iterator[None]:
    """Ray prints there pages of what happens to nodes; inside, that goes nowhere, and we say what matters."""
    console.stdout.file = sys.stdout
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


class RayCrew:
    """Posts are what the nodes have that are alive now; nodes may come and go."""

    def __init__(self, ray: Any, settings: Settings, *, cpu: bool, limit: int | None) -> None:
        self._ray, self._settings, self._cpu, self._limit = ray, settings, cpu, limit
        self._known: dict[str, _Post] = {}

    async def posts(self) -> list[str]:
        try:
            alive = [node for node in await asyncio.to_thread(self._ray.nodes) if node["Alive"]]
        except Exception as error:  # of Ray's C++ half
            raise ClusterUnreachable(
                f"the Ray cluster is lost ({error}); run the same command with --skip-done to go on"
            ) from error
        for node in alive:
            self._known |= self._posts_of(node)
        if not self._known:
            wanted, way_out = ("CPU", "start a node that has") if self._cpu else ("GPU", "give --cpu to do without")
            raise NoNodeFits(
                f"none of the {len(alive)} nodes of the cluster has a {wanted}; {way_out}" + " one" * self._cpu
            )
        there = {node["NodeID"] for node in alive}
        return [name for name, post in self._known.items() if post.node_id in there][: self._limit]

    def _posts_of(self, node: dict[str, Any]) -> dict[str, _Post]:
        name = f"node {node['NodeManagerAddress']} ({node['NodeID'][:8]})"
        cpus, gpus = (int(node["Resources"].get(kind, 0)) for kind in ("CPU", "GPU"))
        if self._cpu:
            return {name: _Post(node["NodeID"], gpus=0, cpus=cpus)} if cpus else {}
        return {f"{name}, GPU {index}": _Post(node["NodeID"], gpus=1, cpus=cpus) for index in range(gpus)}

    @asynccontextmanager
    async def worker(self, post: str) -> AsyncIterator[Worker]:
        actor = self._actor(self._known[post])
        worker = _RayWorker(self._ray, actor, post)
        try:
            yield await worker.start()
        finally:
            await asyncio.shield(worker.stop())

    def _actor(self, post: _Post) -> Any:
        """On that node and no other. With Ray's share of GPUs an actor sees one, which is its number 0."""
        here = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(post.node_id, soft=False)
        cpus = min(1, post.cpus) if post.gpus else post.cpus
        device = ("--gpu", "0") if post.gpus else ("--cpu", "--threads", str(post.cpus))
        actor = self._ray.remote(_Actor).options(num_gpus=post.gpus, num_cpus=cpus, scheduling_strategy=here)
        return actor.remote(device, self._settings)


class _RayWorker:
    """An actor as the driver sees it."""

    def __init__(self, ray: Any, actor: Any, post: str) -> None:
        self._ray, self._actor, self._post = ray, actor, post
        self.skill: Skill  # once it has started

    async def start(self) -> "_RayWorker":
        waiting = asyncio.get_running_loop().call_later(
            _PATIENCE_S, console.say, f"stemline bounce: {self._post}: waiting for the cluster to start a worker there"
        )
        try:
            self.skill = await self._answer(self._actor.start.remote(), _CANCEL_START_LIMIT_S)
        finally:
            waiting.cancel()
        return self

    async def separate(self, song: Song, parts: AnyPath, progress: Progress) -> list[str]:
        names: list[str] = await self._answer(self._actor.separate.remote(song, parts), _CANCEL_LIMIT_S)
        return names

    async def stop(self) -> None:
        if hasattr(self, "skill"):
            await _settled(self._actor.stop.remote(), _STOP_LIMIT_S)
        self._ray.kill(self._actor)

    async def _answer(self, ref: Any, cancel_limit_s: float) -> Any:
        """Cancelled, it cancels the call. Raises WorkerLost, or what the actor reports."""
        try:
            answer = await ref
        except asyncio.CancelledError:
            self._ray.cancel(ref)
            await asyncio.shield(_settled(ref, cancel_limit_s))
            raise
        except self._ray.exceptions.RayError as error:
            raise self._lost(error) from error
        if isinstance(answer, _Refusal):
            raise remote_error(answer.reason, answer.message, answer.metadata)
        return answer

    def _lost(self, error: Exception) -> WorkerLost:
        if "No module named 'pyserver'" in str(error):
            return WorkerLost("Stemline is not installed there: pip install stemline")
        lines = str(error).strip().splitlines() or [type(error).__name__]
        why = next((line.strip() for line in lines if "because" in line), lines[0])
        return WorkerLost(f"the worker is lost: {why}")


async def _settled(ref: Any, limit_s: float) -> None:
    """Waits for the end of a call, whatever it is."""
    done, _ = await asyncio.wait([asyncio.wrap_future(ref.future())], timeout=limit_s)
    for call in done:
        if not call.cancelled():
            call.exception()  # or asyncio complains that nobody has looked at it


def _require_listener(address: str) -> None:
    """Ray itself takes a minute to find out that nobody listens there. Raises ClusterUnreachable."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), _PROBE_S).close()
    except OSError as error:
        raise ClusterUnreachable(f"no Ray cluster answers at {address} ({error})", address=address) from error
