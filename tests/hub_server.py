"""A stand-in for the Hugging Face hub on this machine."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class HubServer(ThreadingHTTPServer):
    """A stand-in for the hub: metadata and a redirect on the resolve path, content on another path."""

    daemon_threads = True

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), HubHandler)
        self.set_content(content)
        self.status = 200
        self.break_after: list[int] = []  # one entry a GET: bytes after which its connection is cut
        self.hold_after: int | None = None  # bytes after which the next GET waits for `go_on`
        self.holding, self.go_on = threading.Event(), threading.Event()
        self.ranges = True
        self.metadata = True
        self.requests: list[tuple[str, str, str | None]] = []
        self.tokens: list[tuple[str, str | None]] = []

    def set_content(self, content: bytes) -> None:
        self.content = content
        self.sha256 = hashlib.sha256(content).hexdigest()

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
        if hub_.hold_after is not None:
            held, hub_.hold_after = hub_.hold_after, None
            self.wfile.write(body[:held])
            hub_.holding.set()
            hub_.go_on.wait(20)
            body = body[held:]
        self.wfile.write(body[: hub_.break_after.pop(0)] if hub_.break_after else body)
        self.close_connection = True


@contextmanager
def serving(content: bytes) -> Iterator[HubServer]:
    """A hub whose every file has this content."""
    with HubServer(content) as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield running
        running.shutdown()
