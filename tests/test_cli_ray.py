"""`bounce` on a Ray cluster of real nodes, of which one is killed half-way, or frozen and thawed too late."""

import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_tools import OUTPUTS, Home, noise, song, wait_until
from ray_cluster import Cluster, Node, running_cluster

from pyserver.cli.exits import Exit

pytest.importorskip("ray", reason="Ray is not installed: pip install 'stemline[cluster]'")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="two nodes on one machine want Linux's loopback")

SONGS = 5


@pytest.fixture(scope="module")
def home(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(tmp_path_factory.mktemp("user") / "home", tiny_model_dir)


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("songs")
    for number in range(SONGS):
        song(folder / f"{number}.wav", noise(12 + number, 8000, 1), 8000)
    return folder


@pytest.fixture(scope="module")
def plain(home: Home, songs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stems of a bounce by one server with as many threads as a node has CPUs: rounding depends on them."""
    folder = tmp_path_factory.mktemp("plain")
    with home.server():
        assert home.run("bounce", songs, "-o", folder).returncode == Exit.OK
    return folder


@pytest.fixture(scope="module")
def cluster(home: Home) -> Iterator[Cluster]:
    with running_cluster(home) as cluster:
        yield cluster


@pytest.fixture
def second(cluster: Cluster) -> Iterator[Node]:
    """A node for one test."""
    node = cluster.add()
    yield node
    node.remove()


def content(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def written(folder: Path) -> dict[Path, tuple[int, int]]:
    """What would differ if a file were written again."""
    files = [path for path in folder.rglob("[!.]*.wav") if ".part" not in path.parent.name]
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


def test_killed_node_costs_nothing_but_time(
    cluster: Cluster, second: Node, songs: Path, plain: Path, tmp_path: Path
) -> None:
    process = cluster.bounce(songs, "-o", tmp_path, "--cpu")
    wait_until(lambda: cluster.nodes[0].at_work() and second.at_work(), 60)
    before = written(tmp_path)
    orphans = second.servers()
    second.kill_ray()
    printed, errors = process.communicate(timeout=120)
    assert process.returncode == Exit.OK, errors
    assert "the worker is lost" in errors
    assert f"{SONGS} of {SONGS} songs in" in errors
    assert content(tmp_path) == content(plain)
    assert sorted(printed.split()) == sorted(map(str, tmp_path.rglob("*.wav")))
    assert len(printed.split()) == SONGS * len(OUTPUTS)
    assert before.items() <= written(tmp_path).items()
    wait_until(lambda: not any(server.is_running() for server in orphans))


def test_node_that_comes_back_too_late_writes_nothing(
    cluster: Cluster, second: Node, songs: Path, plain: Path, tmp_path: Path
) -> None:
    process = cluster.bounce(songs, "-o", tmp_path, "--cpu")
    wait_until(second.at_work, 60)
    second.freeze()
    _, errors = process.communicate(timeout=120)
    assert process.returncode == Exit.OK, errors
    before = written(tmp_path)
    second.thaw()
    wait_until(lambda: not second.servers())
    time.sleep(1.0)
    assert written(tmp_path) == before
    assert {path: data for path, data in content(tmp_path).items() if not path.parts[1].startswith(".")} == content(
        plain
    )


def test_interrupted_bounce_leaves_no_file_and_no_server(cluster: Cluster, songs: Path, tmp_path: Path) -> None:
    process = cluster.bounce(songs, "-o", tmp_path, "--cpu", "--seed", 1)
    wait_until(cluster.nodes[0].at_work, 60)
    done = set(written(tmp_path))
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == Exit.CANCELLED, errors
    assert "cancelled" in errors
    assert set(written(tmp_path)) >= done
    assert len(content(tmp_path)) % len(OUTPUTS) == 0
    wait_until(lambda: not cluster.nodes[0].servers())


def test_cluster_without_a_gpu_says_so(cluster: Cluster, songs: Path, tmp_path: Path) -> None:
    process = cluster.bounce(songs, "-o", tmp_path / "out")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == Exit.NO_NODE_FITS
    assert "has a GPU; give --cpu" in errors
    assert not (tmp_path / "out").exists()
