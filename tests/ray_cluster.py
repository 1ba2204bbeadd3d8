"""A Ray cluster whose nodes are processes of this machine, on loopback addresses, each with one CPU."""

import contextlib
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from cli_tools import Home, command, wait_until

STORE_BYTES = 100 << 20
# A node that is silent for two seconds counts as lost; by default that takes a minute.
SOON = {f"RAY_health_check_{name}": value for name, value in (("initial_delay_ms", "500"), ("period_ms", "500"))}
SOON |= {"RAY_health_check_timeout_ms": "500", "RAY_health_check_failure_threshold": "3"}


class Node:
    """`ray start --block` and all that runs below it."""

    def __init__(self, environment: dict[str, str], *arguments: str) -> None:
        fixed = ["--num-cpus=1", "--num-gpus=0", f"--object-store-memory={STORE_BYTES}", "--disable-usage-stats"]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *fixed, *arguments],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._seen: dict[int, psutil.Process] = {}

    def processes(self) -> list[psutil.Process]:
        """Those below it, also the ones that have lost their parents since they were seen here."""
        with contextlib.suppress(psutil.NoSuchProcess):
            node = psutil.Process(self._process.pid)
            self._seen |= {process.pid: process for process in (node, *node.children(recursive=True))}
        return [process for process in self._seen.values() if process.is_running()]

    def servers(self) -> list[psutil.Process]:
        return [process for process in self.processes() if _is_server(process)]

    def at_work(self) -> bool:
        """A server of it is in the middle of a song."""
        return any('"RUNNING"' in text for server in self.servers() for text in _jobs(server))

    def kill_ray(self) -> None:
        """What Ray runs, at once and without a word; it is left to the server to notice."""
        doomed = [process for process in self.processes() if not _below_server(process)]
        _each(doomed, psutil.Process.kill)
        self._process.wait()

    def freeze(self) -> None:
        _each(self.processes(), psutil.Process.suspend)

    def thaw(self) -> None:
        _each(self.processes(), psutil.Process.resume)

    def remove(self) -> None:
        _each(self.processes(), psutil.Process.kill)
        self._process.wait()


class Cluster:
    """A head, which works like any other node, and the nodes that are added to it."""

    def __init__(self, home: Home, temporary: Path) -> None:
        port = _free_port()
        self.address = f"127.0.0.2:{port}"  # Ray takes 127.0.0.1 for a name of the machine, and looks for a better one
        ours = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
        self.environment = home.environment | ours | SOON | {"TMPDIR": str(temporary)}
        head = ("--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={temporary}")
        self.nodes = [Node(self.environment, "--node-ip-address=127.0.0.2", *head)]

    def answers(self) -> bool:
        host, _, port = self.address.partition(":")
        with contextlib.suppress(OSError):
            socket.create_connection((host, int(port)), 1.0).close()
            return True
        return False

    def add(self) -> Node:
        host = f"127.0.0.{len(self.nodes) + 2}"
        node = Node(self.environment, f"--node-ip-address={host}", f"--address={self.address}")
        self.nodes.append(node)
        return node

    def bounce(self, *arguments: object) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            command("bounce", *arguments, "--ray", self.address),
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@contextmanager
def running_cluster(home: Home) -> Iterator[Cluster]:
    temporary = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # sockets lie in it, and want a short path
    cluster = Cluster(home, temporary)
    try:
        wait_until(cluster.answers)
        yield cluster
    finally:
        for node in reversed(cluster.nodes):
            node.remove()
        shutil.rmtree(temporary, ignore_errors=True)


def _is_server(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return "--until-stdin-closes" in process.cmdline()
    return False


def _below_server(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return any(map(_is_server, (process, *process.parents())))
    return False


def _jobs(server: psutil.Process) -> Iterator[str]:
    with contextlib.suppress(psutil.Error, OSError):
        for path in Path(server.environ()["STEMLINE_HOME"]).glob("state/jobs/*/job.json"):
            yield path.read_text()


def _each(processes: list[psutil.Process], do: Callable[[psutil.Process], None]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            do(process)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.2", 0))
        return int(probe.getsockname()[1])
