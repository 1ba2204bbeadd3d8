"""When to compute what: live windows by deadline, then in turn the windows of bounces and the steps of generations."""

import asyncio
import heapq
import itertools
import math
import time
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Any, Protocol

from pyserver.engine.messages import DeviceInfo, WalkRequest, WalkResult, WindowRequest, WindowResult
from pyserver.separation.errors import DeadlineMissed


class Engine(Protocol):
    """What the scheduler needs of an EngineProcess."""

    @property
    def device(self) -> DeviceInfo: ...

    async def run(self, request: WindowRequest, *, urgent: bool = False) -> WindowResult: ...

    async def walk(self, request: WalkRequest) -> WalkResult: ...


@dataclass(order=True, slots=True)
class _Entry:
    deadline: float
    order: int
    request: WindowRequest | WalkRequest = field(compare=False)
    answer: "asyncio.Future[Any]" = field(compare=False)  # of what the engine makes of the request


class Scheduler:
    """One queue for the engine. The next window is chosen as late as possible: when the engine is free for it.

    One live window and one bounce window are in the engine at a time where live preempts, else one of either kind.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._live: list[_Entry] = []
        self._bounce: OrderedDict[str, deque[_Entry]] = OrderedDict()
        self._order = itertools.count()
        self._running: set[asyncio.Task[None]] = set()
        self._live_running = self._bounce_running = 0

    async def submit(self, request: WindowRequest, *, owner: str, deadline: float = math.inf) -> WindowResult:
        """Wait for a turn and for the result.

        `deadline` is in seconds of `time.monotonic`; with one, the window is live and goes before all bounces,
        earliest first; without one, owners take turns. Cancelling the caller takes the window out of the queue.
        Raises DeadlineMissed if a live window's time is over before it could be started.
        """
        result: WindowResult = await self._enqueued(request, owner, deadline)
        return result

    async def submit_walk(self, request: WalkRequest, *, owner: str) -> WalkResult:
        """As a bounce's window: some steps of a walk, in turn with the other owners' work."""
        result: WalkResult = await self._enqueued(request, owner, math.inf)
        return result

    async def _enqueued(self, request: WindowRequest | WalkRequest, owner: str, deadline: float) -> Any:
        entry = _Entry(deadline, next(self._order), request, asyncio.get_running_loop().create_future())
        if math.isfinite(deadline):
            heapq.heappush(self._live, entry)
        else:
            self._bounce.setdefault(owner, deque()).append(entry)
        self._dispatch()
        return await entry.answer  # a cancelled future is passed over when its turn comes

    @property
    def live_preempts(self) -> bool:
        """Whether a live window goes before what the engine is at, so that this may be as long as one likes."""
        return self._engine.device.live_preempts

    @property
    def waiting_live(self) -> int:
        """Live windows in the queue, not counting those in the engine."""
        return sum(not entry.answer.done() for entry in self._live)

    @property
    def waiting_bounce(self) -> int:
        """Bounce windows in the queue, not counting those in the engine."""
        return sum(not entry.answer.done() for entries in self._bounce.values() for entry in entries)

    def _dispatch(self) -> None:
        """Hand over whatever the engine has room for."""
        together = self._engine.device.live_preempts
        while not self._live_running and (together or not self._bounce_running):
            entry = self._next_live()
            if entry is None:
                break
            self._start(entry, urgent=True)
        while not self._bounce_running and (together or not self._live_running):
            entry = self._next_bounce()
            if entry is None:
                break
            self._start(entry, urgent=False)

    def _next_live(self) -> _Entry | None:
        while self._live:
            entry = heapq.heappop(self._live)
            if entry.answer.done():
                continue
            late_s = time.monotonic() - entry.deadline
            if late_s < 0:
                return entry
            # Computing it would only make the next one late as well.
            entry.answer.set_exception(DeadlineMissed(f"a live window was {1000 * late_s:.0f} ms late in the queue"))
        return None

    def _next_bounce(self) -> _Entry | None:
        """The next window of the owner whose turn is longest ago."""
        while self._bounce:
            owner, entries = next(iter(self._bounce.items()))
            while entries and entries[0].answer.done():
                entries.popleft()
            if not entries:
                del self._bounce[owner]
                continue
            self._bounce.move_to_end(owner)
            return entries.popleft()
        return None

    def _start(self, entry: _Entry, *, urgent: bool) -> None:
        self._live_running += urgent
        self._bounce_running += not urgent
        task = asyncio.create_task(self._compute(entry, urgent=urgent))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _compute(self, entry: _Entry, *, urgent: bool) -> None:
        """A task of its own: the engine stays busy with the window, also when nobody waits for it any more."""
        try:
            if isinstance(entry.request, WalkRequest):
                result: WindowResult | WalkResult = await self._engine.walk(entry.request)
            else:
                result = await self._engine.run(entry.request, urgent=urgent)
            if not entry.answer.done():
                entry.answer.set_result(result)
        except Exception as error:
            if not entry.answer.done():
                entry.answer.set_exception(error)
        finally:
            self._live_running -= urgent
            self._bounce_running -= not urgent
            self._dispatch()
