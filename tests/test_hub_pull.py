"""Pulling from a hub on this machine: resumed, verified, and plain about what is wrong when it cannot be done."""

import hashlib
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from pyserver.audio.files import DiskFull
from pyserver.models import hub

CONTENT = np.random.default_rng(0).bytes(3_000_000)
COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILE = hub.PublishedFile("CD_unet/model.ckpt")


class HubServer(ThreadingHTTPServer):
    """A stand-in for the hub: metadata and a redirect on the resolve path, content on another path."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), HubHandler)
        self.content = CONTENT
        self.sha256 = hashlib.sha256(CONTENT).hexdigest()
        self.status = 200
        self.break_after: list[int] = []  # one entry a GET: bytes after which its connection is cut
        self.ranges = True
        self.metadata = True
        self.requests: list[tuple[str, str, str | None]] = []
        self.tokens: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class HubHandler(BaseHTTPRequestHandler):
    server: HubServer

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        hub_ = self.server
        hub_.requests.append((self.command, self.path, self.headers.get("Range")))
        hub_.tokens.append((self.path, self.headers.get("Authorization")))
        if self.path.startswith("/content/"):
            self._send_content()
        elif hub_.status != 200:
            self.send_error(hub_.status)
        else:
            self.send_response(302)
            # A host of another name, so that the client cannot take it for the hub itself.
            self.send_header("Location", f"http://localhost:{hub_.server_port}/content/{self.path.split('/')[4]}")
            if hub_.metadata:
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("X-Linked-Etag", f'"{hub_.sha256}"')
                self.send_header("X-Linked-Size", str(len(hub_.content)))
            self.send_header("Content-Length", "0")
            self.end_headers()

    def _send_content(self) -> None:
        hub_, start = self.server, 0
        asked = self.headers.get("Range")
        if asked and hub_.ranges:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(hub_.content) - 1}/{len(hub_.content)}")
        else:
            self.send_response(200)
        body = hub_.content[start:]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: hub_.break_after.pop(0)] if hub_.break_after else body)
        self.close_connection = True


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with HubServer() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield running
        running.shutdown()


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
