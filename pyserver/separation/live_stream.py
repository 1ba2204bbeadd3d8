"""A live session at work: its windows go to the scheduler, its stems come out in order."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Protocol

from pyserver.engine.messages import Audio, SeparationSettings, WindowResult
from pyserver.separation.errors import DeadlineMissed
from pyserver.separation.live import LiveDropped, LiveStems, LiveWindow
from pyserver.separation.scheduler import Scheduler


class Session(Protocol):
    """The arithmetic of a stream: which windows its blocks make, which stems their results. Knows no clock."""

    settings: SeparationSettings
    """May be set at any time; holds from the next window on."""
    segment: int
    """Counts the runs of blocks: grows with every flush and with every block that does not follow the last."""

    @property
    def consumed_samples(self) -> int:
        """Where the next block is expected: how far the client's stream has been read."""

    def feed(self, start_sample: int, audio_CN: Audio, now_s: float) -> list[LiveWindow]:
        """Take a block; `now_s` is when it arrived."""

    def flush(self) -> None:
        """The past is forgotten, the next block may start anywhere."""

    def finish(self, now_s: float) -> list[LiveWindow]:
        """The stream has ended: the windows that bring out its tail."""

    def accept(self, window: LiveWindow, result: WindowResult) -> list[LiveStems | LiveDropped]:
        """What a computed window finishes, in order; results may come in any."""

    def drop(self, window: LiveWindow, message: str) -> list[LiveStems | LiveDropped]:
        """A window with a deadline has missed it."""


class LiveStream:
    """What the Live service holds for each client. Iterate over it for stems; everything runs on the event loop."""

    def __init__(self, session: Session, scheduler: Scheduler, owner: str) -> None:
        self._session, self._scheduler, self._owner = session, scheduler, owner
        self._tasks: dict[asyncio.Task[None], int] = {}  # and the segment each works for
        self._out: asyncio.Queue[LiveStems | LiveDropped | Exception | None] = asyncio.Queue()
        self._finished = False

    def feed(self, start_sample: int, audio_CN: Audio) -> None:
        """Take a block; never waits."""
        self._compute(self._session.feed(start_sample, audio_CN, time.monotonic()))

    def flush(self) -> None:
        self._session.flush()
        self._cancel_before(self._session.segment)

    def finish(self) -> None:
        """The client sends no more: iteration ends when the tail is out."""
        self._finished = True
        self._compute(self._session.finish(time.monotonic()))
        self._end_if_done()

    async def __aiter__(self) -> AsyncIterator[LiveStems | LiveDropped]:
        """Stems and dropped ranges in order of position within an epoch. Raises what the engine raises."""
        while (item := await self._out.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item
            self._out.task_done()

    async def taken(self) -> None:
        """Returns when everything that has come out so far has been dealt with by who iterates."""
        await self._out.join()

    def close(self) -> None:
        """Give up everything still waiting, as when the client has gone."""
        self._cancel_before(self._session.segment + 1)
        self._out.put_nowait(None)

    def _compute(self, windows: list[LiveWindow]) -> None:
        self._cancel_before(self._session.segment)
        for window in windows:
            task = asyncio.create_task(self._one(window))
            self._tasks[task] = window.segment
            task.add_done_callback(self._done)

    async def _one(self, window: LiveWindow) -> None:
        try:
            result = await self._scheduler.submit(window.request, owner=self._owner, deadline=window.deadline_s)
            out = self._session.accept(window, result)
        except DeadlineMissed as late:
            out = self._session.drop(window, str(late))
        except Exception as error:
            # Without this window the stream would have a hole that nobody named: it ends here, saying why.
            self._out.put_nowait(error)
            return
        for item in out:
            self._out.put_nowait(item)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.pop(task, None)
        self._end_if_done()

    def _end_if_done(self) -> None:
        if self._finished and not self._tasks:
            self._out.put_nowait(None)

    def _cancel_before(self, segment: int) -> None:
        """Windows from before a jump need not be computed any more."""
        for task, belongs_to in self._tasks.items():
            if belongs_to < segment:
                task.cancel()
