"""Downloads of published models: one for each model, shared by the calls that wait for it."""

import asyncio
import contextlib
import multiprocessing
import threading
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from pyserver.engine.wire import Failure
from pyserver.errors import StemlineError
from pyserver.models import pull

_PERIOD_S = 0.1


class Stage(Enum):
    LOOK_UP = "look up"
    DOWNLOAD = "download"
    INSTALL = "install"


@dataclass(frozen=True, slots=True)
class Progress:
    stage: Stage
    done_bytes: int = 0
    total_bytes: int = 0


class _Stopped(Exception):
    """Nobody waits for this download any more."""


@dataclass(slots=True)
class _Download:
    """Worked on by a thread of its own, which replaces `progress` and keeps an eye on `stopped`."""

    name: str
    ended: "asyncio.Future[None]"
    progress: Progress = Progress(Stage.LOOK_UP)
    stopped: threading.Event = field(default_factory=threading.Event)
    watchers: int = 0

    def run(self) -> None:
        offer = pull.look_up(self.name)
        total = offer.remote.num_bytes
        self._show(Progress(Stage.DOWNLOAD, 0, total))
        path = pull.download(offer, lambda done, total: self._show(Progress(Stage.DOWNLOAD, done, total)))
        self._show(Progress(Stage.INSTALL, total, total))
        _install(path, offer)

    def _show(self, progress: Progress) -> None:
        if self.stopped.is_set():
            raise _Stopped
        self.progress = progress


class Downloads:
    """Lives on one event loop. `refuse_if_draining` raises once the server is going."""

    def __init__(self, refuse_if_draining: Callable[[], None]) -> None:
        self._refuse_if_draining = refuse_if_draining
        self._running: dict[str, _Download] = {}

    async def watch(self, name: str) -> AsyncGenerator[Progress, None]:
        """Starts or joins the download of `name`; ends once the model is installed, raises why it could not be. The
        last watcher to leave stops it, and what is there stays for the next one."""
        download = self._running.get(name) or self._start(name)
        download.watchers += 1
        shown = None
        try:
            while True:
                self._refuse_if_draining()
                progress = download.progress
                if progress != shown:
                    shown = progress
                    yield progress
                if download.ended.done():
                    download.ended.result()
                    return
                await asyncio.wait({download.ended}, timeout=_PERIOD_S)
        finally:
            download.watchers -= 1
            if download.watchers == 0:
                download.stopped.set()
            if download.watchers == 0 and self._running.get(name) is download:
                del self._running[name]

    def _start(self, name: str) -> _Download:
        pull.published(name)
        loop = asyncio.get_running_loop()
        download = self._running[name] = _Download(name, loop.create_future())

        def end(error: BaseException | None) -> None:
            if self._running.get(name) is download:
                del self._running[name]
            if download.watchers == 0:
                download.ended.cancel()
            elif error is not None:
                download.ended.set_exception(error)
            else:
                download.ended.set_result(None)

        def work() -> None:
            error: BaseException | None = None
            try:
                download.run()
            except BaseException as raised:
                error = raised
            with contextlib.suppress(RuntimeError):  # the loop has closed: nobody is left to be told
                loop.call_soon_threadsafe(end, error)

        # A daemon, as it may hang on a hub that does not answer when the server ends.
        threading.Thread(target=work, name=f"download {name}", daemon=True).start()
        return download


def _install(path: Path, offer: pull.Offer) -> None:
    """In a process of its own: torch has no place in this one."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        failure = pool.submit(_try_install, path, offer).result()
    if failure is not None:
        raise failure.to_error()


def _try_install(path: Path, offer: pull.Offer) -> Failure | None:
    try:
        pull.install(path, offer, replace=True)
    except StemlineError as error:
        return Failure.of(error)
    return None
