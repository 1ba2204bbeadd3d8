"""When to compute what: live windows by deadline, then in turn the windows of bounces and the steps of generations.

Live windows that wait beside each other are handed over as one batch where the engine found that to be faster. Their
stems may then differ by float rounding from those they would have alone. Bounces and offline sessions are promised the
same bytes whatever else is computed, so their windows, which have no deadline, are never put into a batch.
"""

import asyncio
import heapq
import itertools
import math
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from pyserver.engine.messages import DeviceInfo, LoadedModel, WalkRequest, WalkResult, WindowRequest, WindowResult
from pyserver.separation.errors import DeadlineMissed

R = TypeVar("R", bound=WindowRequest | WalkRequest)
Outcomes = Sequence[WindowResult | WalkResult | Exception]

_SLOWER = 1.25  # than a window took alone, and another of its batch may take
_SHAPES_KNOWN = 256


class Engine(Protocol):
    """What the scheduler needs of an EngineProcess."""

    @property
    def device(self) -> DeviceInfo: ...

    def loaded(self, model: str) -> LoadedModel | None: ...

    async def run(self, request: WindowRequest, *, urgent: bool = False) -> WindowResult: ...

    async def run_together(self, requests: Sequence[WindowRequest]) -> list[WindowResult | Exception]: ...

    async def walk(self, request: WalkRequest) -> WalkResult: ...


@dataclass(order=True, slots=True)
class _Entry(Generic[R]):
    deadline: float
    order: int
    owner: str = field(compare=False)
    request: R = field(compare=False)
    answer: "asyncio.Future[Any]" = field(compare=False)  # of what the engine makes of the request


class Scheduler:
    """One queue for the engine. The next window is chosen as late as possible: when the engine is free for it.

    One batch of live windows and one bounce window are in the engine at a time where live preempts, else one of either
    kind.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._live: list[_Entry[WindowRequest]] = []
        self._bounce: OrderedDict[str, deque[_Entry[Any]]] = OrderedDict()
        self._order = itertools.count()
        self._running: set[asyncio.Task[None]] = set()
        self._live_running = self._bounce_running = 0
        self._alone_s: dict[tuple[object, ...], float] = {}  # what a live window of a shape last took by itself

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
        entry: _Entry[Any] = _Entry(
            deadline, next(self._order), owner, request, asyncio.get_running_loop().create_future()
        )
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
            batch = self._next_live()
            if not batch:
                break
            self._start(batch, self._separated(batch), urgent=True)
        while not self._bounce_running and (together or not self._live_running):
            entry = self._next_bounce()
            if entry is None:
                break
            self._start([entry], self._worked_off(entry), urgent=False)

    def _next_live(self) -> list[_Entry[WindowRequest]]:
        """The window that is due first, and with it those due next for as long as each can join.

        Nothing that waits is passed over by what is due later, each owner has one window in a batch, and the first is
        not made late by its company. So a batch takes no window longer than what a session is promised to bear: one
        window of every other session before its own.
        """
        first = self._earliest_live()
        if first is None:
            return []
        batch, most = [heapq.heappop(self._live)], self._most_with(first)
        while len(batch) < most and (entry := self._earliest_live()) and _may_join(entry, batch):
            batch.append(heapq.heappop(self._live))
        return batch

    def _earliest_live(self) -> _Entry[WindowRequest] | None:
        """It stays in the queue; those that nobody waits for any more and those that are late leave it."""
        while self._live:
            entry = self._live[0]
            late_s = time.monotonic() - entry.deadline
            if late_s < 0 and not entry.answer.done():
                return entry
            heapq.heappop(self._live)
            if not entry.answer.done():
                # Computing it would only make the next one late as well.
                entry.answer.set_exception(
                    DeadlineMissed(f"a live window was {1000 * late_s:.0f} ms late in the queue")
                )
        return None

    def _most_with(self, first: _Entry[WindowRequest]) -> int:
        """How large a batch may be for its first window to be in time, even if nothing were gained by it."""
        loaded, alone_s = self._engine.loaded(first.request.model), self._alone_s.get(first.request.shape_of_pass)
        if loaded is None or alone_s is None:
            return 1
        left_s = first.deadline - time.monotonic()
        return max((most for most in range(2, loaded.live_batch + 1) if most * _SLOWER * alone_s <= left_s), default=1)

    def _next_bounce(self) -> _Entry[Any] | None:
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

    def _start(self, entries: Sequence[_Entry[Any]], work: Awaitable[Outcomes], *, urgent: bool) -> None:
        self._live_running += urgent
        self._bounce_running += not urgent
        task = asyncio.create_task(self._answer(entries, work, urgent=urgent))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _answer(self, entries: Sequence[_Entry[Any]], work: Awaitable[Outcomes], *, urgent: bool) -> None:
        """A task of its own: the engine stays busy with the work, also when nobody waits for it any more."""
        try:
            _settle(entries, await work)
        except Exception as error:
            _settle(entries, [error] * len(entries))
        finally:
            self._live_running -= urgent
            self._bounce_running -= not urgent
            self._dispatch()

    async def _worked_off(self, entry: _Entry[Any]) -> Outcomes:
        if isinstance(entry.request, WalkRequest):
            return [await self._engine.walk(entry.request)]
        return [await self._engine.run(entry.request)]

    async def _separated(self, batch: Sequence[_Entry[WindowRequest]]) -> Outcomes:
        if len(batch) > 1:
            return await self._engine.run_together([entry.request for entry in batch])
        request = batch[0].request
        result = await self._engine.run(request, urgent=True)
        self._remember(request, result.compute_s)
        return [result]

    def _remember(self, window: WindowRequest, alone_s: float) -> None:
        if len(self._alone_s) == _SHAPES_KNOWN:  # clients choose shapes: what they can make us keep is bounded
            self._alone_s.clear()
        self._alone_s[window.shape_of_pass] = alone_s


def _may_join(entry: _Entry[WindowRequest], batch: Sequence[_Entry[WindowRequest]]) -> bool:
    """Whether they can share a pass, and nobody has two windows in it."""
    same_shape = entry.request.shape_of_pass == batch[0].request.shape_of_pass
    return same_shape and entry.owner not in {other.owner for other in batch}


def _settle(entries: Sequence[_Entry[Any]], outcomes: Outcomes) -> None:
    for entry, outcome in zip(entries, outcomes, strict=True):
        if entry.answer.done():
            continue
        if isinstance(outcome, Exception):
            entry.answer.set_exception(outcome)
        else:
            entry.answer.set_result(outcome)
