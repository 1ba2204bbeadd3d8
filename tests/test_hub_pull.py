"""Pulling from a hub on this machine: resumed, verified, and plain about what is wrong when it cannot be done."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hub_server import COMMIT, HubServer, serving

from pyserver.errors import DiskFull
from pyserver.models import hub

CONTENT = np.random.default_rng(0).bytes(3_000_000)
FILE = hub.PublishedFile("CD_unet/model.ckpt")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with serving(CONTENT) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


def pull(directory: Path, progress: hub.Progress | None = None) -> Path:
    return hub.download(hub.look_up(FILE), directory, progress)


def test_file_is_fetched_at_one_commit_and_verified(server: HubServer, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    path = pull(tmp_path, lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert hub.look_up(FILE).commit == COMMIT
    assert [where for _, where, _ in server.requests if "resolve" in where][1:3] == [
        f"/karchkha/DiCoSe/resolve/{COMMIT}/CD_unet/model.ckpt"
    ] * 2


def test_broken_connections_are_resumed_by_range(server: HubServer, tmp_path: Path) -> None:
    server.break_after = [1_000_000, 500_000]
    assert pull(tmp_path).read_bytes() == CONTENT
    content = [asked for _, where, asked in server.requests if where.startswith("/content/")]
    assert content == [None, "bytes=1000000-", "bytes=1500000-"]


def test_next_pull_goes_on_where_an_interrupted_one_stopped(server: HubServer, tmp_path: Path) -> None:
    server.break_after = [1_000_000, 0, 0, 0, 0]
    with pytest.raises(hub.DownloadInterrupted, match="1000000 of 3000000 bytes") as caught:
        pull(tmp_path)
    assert caught.value.metadata["done_bytes"] == "1000000"
    server.requests.clear()
    assert pull(tmp_path).read_bytes() == CONTENT
    assert server.requests[-1][2] == "bytes=1000000-"


def test_server_without_ranges_is_asked_from_the_beginning(server: HubServer, tmp_path: Path) -> None:
    server.break_after, server.ranges = [1_000_000], False
    assert pull(tmp_path).read_bytes() == CONTENT


def test_finished_download_is_not_repeated(server: HubServer, tmp_path: Path) -> None:
    pull(tmp_path)
    server.requests.clear()
    pull(tmp_path)
    assert all(command == "HEAD" for command, _, _ in server.requests)


def test_wrong_checksum_is_refused_and_deleted(server: HubServer, tmp_path: Path) -> None:
    server.sha256 = "0" * 64
    with pytest.raises(hub.DownloadCorrupted, match="not what the hub describes"):
        pull(tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.suffix != ".lock"]


def test_pinned_checksum_overrules_the_hub(server: HubServer) -> None:
    with pytest.raises(hub.DownloadCorrupted, match="nothing was downloaded"):
        hub.look_up(hub.PublishedFile(FILE.path, sha256="1" * 64))
    assert all(command == "HEAD" for command, _, _ in server.requests)


@pytest.mark.parametrize(
    ("status", "error", "word"),
    [
        (404, hub.HubFileNotFound, "moved or renamed"),
        (401, hub.HubAccessDenied, "HF_TOKEN"),
        (403, hub.HubAccessDenied, "HF_TOKEN"),
        (429, hub.HubAnswer, "too many requests"),
        (503, hub.HubAnswer, "503"),
    ],
)
def test_refusal_is_explained(server: HubServer, status: int, error: type[Exception], word: str) -> None:
    server.status = status
    with pytest.raises(error, match=word):
        hub.look_up(FILE)


def test_no_network_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(hub.HubUnreachable, match=r"127\.0\.0\.1:1 .*refused.*HF_ENDPOINT"):
        hub.look_up(FILE)


def test_mirror_that_gives_no_checksum_is_refused(server: HubServer) -> None:
    server.metadata = False
    with pytest.raises(hub.HubAnswer, match="could not be checked"):
        hub.look_up(FILE)


def test_full_disk_is_found_before_the_download(server: HubServer, tmp_path: Path) -> None:
    remote = hub.RemoteFile(f"{server.url}/content/x", COMMIT, "0" * 64, 1 << 60)
    with pytest.raises(DiskFull, match="lacks"):
        hub.download(remote, tmp_path)
    assert not server.requests


def test_token_goes_to_the_hub_alone(server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    pull(tmp_path)
    assert {token for path, token in server.tokens if "resolve" in path} == {"Bearer secret"}
    assert {token for path, token in server.tokens if path.startswith("/content/")} == {None}
