"""Downloads published checkpoints from the Hugging Face hub: resumable, and checked against the hub's own sha256.

The revision is resolved to a commit once, and size, checksum and content are all asked for at that commit, which the
model card then records. HF_ENDPOINT names another hub or a mirror, HF_TOKEN is sent to that host and to no other.
"""

import contextlib
import http.client
import os
import re
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import IO, Any

from pyserver.audio.files import writing_to
from pyserver.errors import DiskFull, StemlineError
from pyserver.models import catalogue

REPOSITORY = "karchkha/DiCoSe"
TIMEOUT_S = 30.0
_ATTEMPTS_WITHOUT_PROGRESS = 4
_READ_BYTES = 1 << 18
_MAX_REDIRECTS = 5

Answer = http.client.HTTPResponse | urllib.error.HTTPError
Progress = Callable[[int, int], None]
"""Called with bytes so far and bytes in all."""


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """A checkpoint on the hub. With `sha256` given, no other file is accepted, whatever the hub says."""

    path: str
    revision: str = "main"
    sha256: str = ""
    repository: str = REPOSITORY


# Each refiner's file also holds its separator. Nobody has yet pinned a commit and a checksum from the hub itself here:
# until then the first pull resolves "main", and the card it writes says to which commit.
PUBLISHED = {
    "dicose-unet": PublishedFile("CD_unet/model.ckpt"),
    "dicose-bs-roformer": PublishedFile("CD_MSST_bs_roformer/model.ckpt"),
}


class HubUnreachable(StemlineError):
    reason = "HUB_UNREACHABLE"


class HubFileNotFound(StemlineError):
    reason = "HUB_FILE_NOT_FOUND"


class HubAccessDenied(StemlineError):
    reason = "HUB_ACCESS_DENIED"


class HubAnswer(StemlineError):
    """The hub answered, but not as a hub does."""

    reason = "HUB_ANSWER"


class DownloadInterrupted(StemlineError):
    reason = "DOWNLOAD_INTERRUPTED"


class DownloadCorrupted(StemlineError):
    reason = "DOWNLOAD_CORRUPTED"


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """What the hub says of a file at one commit."""

    url: str
    commit: str
    sha256: str
    num_bytes: int


class _Broken(Exception):
    """The connection broke in the middle of a body; what came before is on disk."""


def endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def look_up(file: PublishedFile) -> RemoteFile:
    """Ask the hub for a file's commit, size and checksum."""
    commit = _header(_head(_url(file, file.revision)), "X-Repo-Commit", r"[0-9a-f]{40}", file)
    url = _url(file, commit)
    head = _head(url)
    sha256 = _header(head, "X-Linked-Etag", r"[0-9a-f]{64}", file)
    size = int(_header(head, "X-Linked-Size", r"[0-9]+", file))
    if file.sha256 and file.sha256 != sha256:
        raise DownloadCorrupted(
            f"the hub offers {file.path} with sha256 {sha256[:12]}…, but {file.sha256[:12]}… is the one we know; "
            "nothing was downloaded",
            url=url,
        )
    return RemoteFile(url, commit, sha256, size)


def download(remote: RemoteFile, directory: Path, progress: Progress | None = None) -> Path:
    """Fetch a file into `directory`, going on where an earlier attempt stopped. Returns the verified file's path."""
    done = directory / f"{remote.sha256}.ckpt"
    part = directory / f"{remote.sha256}.part"
    with writing_to(part):
        directory.mkdir(parents=True, exist_ok=True)
    with _only_one(directory / f"{remote.sha256}.lock"):
        if not done.exists():
            _require_space(part, remote)
            _fetch_all(remote, part, progress)
            _verify(part, remote)
            part.replace(done)
    return done


def _fetch_all(remote: RemoteFile, part: Path, progress: Progress | None) -> None:
    attempts = 0
    while (start := _size(part)) < remote.num_bytes:
        try:
            _fetch(remote, part, start, progress)
        except (_Broken, HubUnreachable) as error:
            attempts = 0 if _size(part) > start else attempts + 1
            if attempts == _ATTEMPTS_WITHOUT_PROGRESS:
                if _size(part) == 0 and isinstance(error, HubUnreachable):
                    raise
                raise DownloadInterrupted(
                    f"the download of {remote.url} broke off at {_size(part)} of {remote.num_bytes} bytes ({error}); "
                    "try again to go on from there",
                    url=remote.url,
                    done_bytes=_size(part),
                ) from error
            time.sleep(0.2 * 2**attempts)


def _fetch(remote: RemoteFile, part: Path, start: int, progress: Progress | None) -> None:
    headers = {"Range": f"bytes={start}-"} if start else {}
    with _open("GET", remote.url, headers) as answer, writing_to(part), part.open("ab") as file:
        if answer.status == 200:  # the server knows no ranges: from the beginning
            file.truncate(0)
            start = 0
        elif not str(answer.headers.get("Content-Range", "")).startswith(f"bytes {start}-"):
            raise HubAnswer(f"{remote.url} answered with another part of the file than was asked for", url=remote.url)
        for piece in _pieces(answer, remote.num_bytes - start):
            file.write(piece)
            start += len(piece)
            if progress is not None:
                progress(start, remote.num_bytes)


def _pieces(answer: Answer, expected: int) -> Iterator[bytes]:
    left = expected
    while left > 0:
        try:
            piece = answer.read(min(_READ_BYTES, left))
        except (OSError, http.client.HTTPException) as error:
            raise _Broken(str(error) or type(error).__name__) from error
        if not piece:
            raise _Broken("the server closed the connection")
        left -= len(piece)
        yield piece


def _verify(part: Path, remote: RemoteFile) -> None:
    actual = catalogue.sha256_of(part)
    if actual != remote.sha256:
        part.unlink()
        raise DownloadCorrupted(
            f"what came from {remote.url} is not what the hub describes (sha256 {actual[:12]}…, expected "
            f"{remote.sha256[:12]}…); it was deleted, try again",
            url=remote.url,
            expected=remote.sha256,
            actual=actual,
        )


def _head(url: str) -> Message:
    """Headers of the hub's own answer; its redirect to a content server is not followed, one within the hub is."""
    for _ in range(_MAX_REDIRECTS):
        with _open_once("HEAD", url, {}) as answer:
            target = answer.headers.get("Location")
            if target is None or answer.headers.get("X-Linked-Etag"):
                return answer.headers
            following = urllib.parse.urljoin(url, target)
            if _host(following) != _host(url):
                return answer.headers
            url = following
    raise HubAnswer(f"{url} redirects without end", url=url)


def _open(method: str, url: str, headers: dict[str, str]) -> Answer:
    for _ in range(_MAX_REDIRECTS):
        answer = _open_once(method, url, headers)
        target = answer.headers.get("Location")
        if target is None or answer.status == 200 or answer.status == 206:
            return answer
        answer.close()
        url = urllib.parse.urljoin(url, target)
    raise HubAnswer(f"{url} redirects without end", url=url)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Redirects are followed by hand: urllib would hand the token on to whatever host it is sent to."""

    def redirect_request(self, req: Any, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str) -> None:
        return None


def _open_once(method: str, url: str, headers: dict[str, str]) -> Answer:
    request = urllib.request.Request(url, method=method, headers={"User-Agent": "stemline", **headers})
    token = os.environ.get("HF_TOKEN")
    if token and _host(url) == _host(endpoint()):
        request.add_header("Authorization", f"Bearer {token}")
    try:
        answer: http.client.HTTPResponse = urllib.request.build_opener(_NoRedirect).open(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code in {301, 302, 303, 307, 308}:
            return error  # an HTTPError is an answer too
        raise _refusal(url, error.code) from error
    except (OSError, http.client.HTTPException) as error:
        cause = getattr(error, "reason", error)
        raise HubUnreachable(
            f"cannot reach {_host(url)} ({getattr(cause, 'strerror', None) or cause}); check the network, or set "
            "HF_ENDPOINT to a mirror",
            url=url,
        ) from error
    return answer


def _refusal(url: str, status: int) -> StemlineError:
    if status == 404:
        return HubFileNotFound(f"the hub has no {url} (404); it was moved or renamed, update Stemline", url=url)
    if status in {401, 403}:
        return HubAccessDenied(
            f"the hub denies access to {url} ({status}): it is private or gone, or HF_TOKEN is wrong or missing",
            url=url,
        )
    if status == 429:
        return HubAnswer("the hub says that there were too many requests (429); wait some minutes", url=url)
    return HubAnswer(f"{url} answered with status {status}; try again later", url=url, status=status)


def _header(headers: Message, name: str, pattern: str, file: PublishedFile) -> str:
    value = str(headers.get(name, "")).strip('"')
    if not re.fullmatch(pattern, value):
        raise HubAnswer(
            f"{endpoint()} does not say {name} of {file.path}, so the file could not be checked; nothing was downloaded"
        )
    return value


def _url(file: PublishedFile, revision: str) -> str:
    return f"{endpoint()}/{file.repository}/resolve/{revision}/{file.path}"


def _host(url: str) -> str:
    return urllib.parse.urlsplit(url).netloc


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _require_space(part: Path, remote: RemoteFile) -> None:
    missing = remote.num_bytes - _size(part) - shutil.disk_usage(part.parent).free
    if missing > 0:
        raise DiskFull(
            f"{part.parent} lacks {missing / 2**20:.0f} MiB for a download of {remote.num_bytes / 2**20:.0f} MiB; free "
            "some, or set STEMLINE_HOME to another disk",
            path=part,
        )


@contextlib.contextmanager
def _only_one(path: Path) -> Iterator[None]:
    """Two pulls of one file would write into each other: the second waits. Freed by the system if a process dies."""
    try:
        import fcntl
    except ImportError:  # on Windows the second process fails to open the file that the first writes
        yield
        return
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
