"""A live session at work: its windows go to the scheduler, its stems come out in order."""

import asyncio
import time
from collections.abc import AsyncIterator

from pyserver.engine.messages import Audio
from pyserver.separation.errors import DeadlineMissed
from pyserver.separation.live import LiveDropped, LiveSession, LiveStems, LiveWindow
from pyserver.separation.scheduler import Scheduler


class LiveStream:
    """What the Live service holds for each client. Iterate over it for stems; everything runs on the event loop."""

    def __init__(self, session: LiveSession, scheduler: Scheduler, owner: str) -> None:
        self._session, self._scheduler, self._owner = session, scheduler, owner
        self._tasks: set[asyncio.Task[None]] = set()
        self._out: asyncio.Queue[LiveStems | LiveDropped | Exception | None] = asyncio.Queue()
        self._finished = False

    def feed(self, start_sample: int, audio_CN: Audio) -> None:
        """Take a block; never waits."""
        self._compute(self._session.feed(start_sample, audio_CN, time.monotonic()))

    def flush(self) -> None:
        """The next block may start anywhere; what came before still has its stems."""
        self._compute(self._session.flush())

    def finish(self) -> None:
        """The client sends no more: iteration ends when the tail is out."""
        self._finished = True
        self._compute(self._session.finish())
        self._end_if_done()

    async def __aiter__(self) -> AsyncIterator[LiveStems | LiveDropped]:
        """Stems and dropped ranges in the order in which their samples came. Raises what the engine raises."""
        while (item := await self._out.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item
            self._out.task_done()

    async def room(self) -> None:
        """Returns when a segment may begin: nothing that has come out so far waits to be dealt with by who iterates,
        and where there are no deadlines, few enough segments are being finished that this one's end will be as well.
        """
        while not self._session.plan.deadlines and self._session.crowded and self._tasks:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        await self._out.join()

    def close(self) -> None:
        """Give up everything still waiting, as when the client has gone."""
        for task in self._tasks:
            task.cancel()
        self._out.put_nowait(None)

    def _compute(self, windows: list[LiveWindow]) -> None:
        for window in windows:
            task = asyncio.create_task(self._one(window))
            self._tasks.add(task)
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
        self._tasks.discard(task)
        self._end_if_done()

    def _end_if_done(self) -> None:
        if self._finished and not self._tasks:
            self._out.put_nowait(None)
