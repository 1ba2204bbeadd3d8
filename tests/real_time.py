"""Judges a live session in real time by what it can be blamed for: not for a machine that was busy with others."""

import asyncio
import threading
import time
from bisect import bisect_left, bisect_right
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import TypeVar

_TICK_S = 0.005
_SHORTLY_S = 0.5
_THREADS_ON_THE_WAY = 12  # loops, gRPC's own, those that read and write the engine's pipe and its own: there and back
T = TypeVar("T")


async def paced(blocks: Iterable[T], duration_s: float) -> AsyncIterator[T]:
    """Each when its last sample exists. Never faster than real time: what was late is not caught up."""
    due = time.monotonic()
    for block in blocks:
        due = max(due + duration_s, time.monotonic())
        await asyncio.sleep(due - time.monotonic())
        yield block


class Watch:
    """Measures, while its context lasts, how much too late a thread that does nothing is woken."""

    def __init__(self) -> None:
        self._ticks: list[float] = []
        self._overslept: list[float] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._tick, name="watch", daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end.set()
        self._thread.join()

    def stalled_s(self, since: float, until: float) -> float:
        """Seconds between two moments of `time.monotonic` for which the machine may have to answer.

        That is if each thread through which a window goes was woken as late as ours at the worst, then or shortly
        before: others that are busy now do not show at every moment.
        """
        first, last = bisect_left(self._ticks, since - _SHORTLY_S), bisect_right(self._ticks, until) + 1
        return _THREADS_ON_THE_WAY * max(self._overslept[first:last], default=0.0)

    def _tick(self) -> None:
        while not self._end.is_set():
            began = time.monotonic()
            time.sleep(_TICK_S)
            self._ticks.append(time.monotonic())
            self._overslept.append(self._ticks[-1] - began - _TICK_S)


@dataclass(frozen=True, slots=True)
class _Came:
    """A run of stems, or the word that there will be none: then nothing was computed."""

    start: int
    complete_s: float  # when the last sample that its window needs was sent
    at_s: float
    compute_s: float
    late_samples: int
    dropped: bool


class Diary:
    """What was sent when, and what came back when, in samples on the stream's timeline from 0."""

    def __init__(self, *, latency: int, allowance: int, context: int, rate: int) -> None:
        """All in samples: `allowance` is what of the latency is for computing and the way there and back, `context`
        how far beyond the end of a run its window reaches."""
        self._latency, self._context, self._rate = latency, context, rate
        self._allowance_s = allowance / rate
        self._sent: list[int] = [0]
        self._sent_s: list[float] = [time.monotonic()]
        self._came: list[_Came] = []

    def sent(self, samples: int) -> None:
        """To be called when the stream up to `samples` is about to be sent."""
        self._sent.append(samples)
        self._sent_s.append(time.monotonic())

    def came(self, start: int, stop: int, compute_s: float = 0.0, *, dropped: bool = False) -> None:
        complete = min(bisect_left(self._sent, stop + self._context), len(self._sent) - 1)
        late = self._sent[-1] - start - self._latency
        self._came.append(_Came(start, self._sent_s[complete], time.monotonic(), compute_s, late, dropped))

    @property
    def late(self) -> list[int]:
        """Which runs of stems came late, counted from 0."""
        runs = [run for run in self._came if not run.dropped]
        return [index for index, run in enumerate(runs) if run.late_samples > 0]

    @property
    def dropped(self) -> int:
        """Runs that never came."""
        return sum(run.dropped for run in self._came)

    def to_blame(self, stalled_s: Callable[[float, float], float]) -> list[str]:
        """The late runs for which the server has to answer.

        It has the allowance for a window. If a run is late, then computing, which takes what the machine makes it
        take, and stalls must have used most of that up. A run given up must have been late already.
        `stalled_s` is that of a Watch.
        """
        found = []
        for run in self._came:
            taken_s = run.at_s - run.complete_s
            if run.dropped and taken_s < self._allowance_s:
                found.append(f"{run.start}: given up after {1000 * taken_s:.0f} ms")
            elif run.dropped or run.late_samples > 0:
                computing_s = sum(other.compute_s for other in self._came if run.complete_s < other.at_s <= run.at_s)
                stalls_s = stalled_s(run.complete_s, run.at_s)
                if taken_s - computing_s - stalls_s > self._allowance_s / 2:
                    parts = [round(1000 * part) for part in (self._allowance_s, taken_s, computing_s, stalls_s)]
                    found.append("{}: allowed {} ms, took {}, computing {}, stalled {}".format(run.start, *parts))
        return found
