"""Live sessions that wait, as while a host renders: the windows of a bounce, cut from a stream. Knows no clock.

A segment is treated as a file that begins with its first sample: the same grid, positions (hence noise), overlap-add
and end. So its stems are those that `bounce` writes of that file, sample for sample, whatever the blocks look like.
Axes: S stems, C channels, N samples.
"""

import math
import sys
from dataclasses import dataclass, field

from pyserver.engine.messages import Audio, SeparationSettings, WindowRequest, WindowResult
from pyserver.models.card import ModelCard
from pyserver.separation.errors import LatencyNotPossible
from pyserver.separation.history import History
from pyserver.separation.live import LiveDropped, LivePlan, LiveStems, LiveWindow, plan_without_deadlines
from pyserver.separation.overlap import OverlapAdd
from pyserver.separation.windows import Window, WindowShape, window_count


@dataclass(frozen=True, slots=True, kw_only=True)
class OfflinePlan:
    """The fixed numbers of a session on the grid of a bounce, in samples at the client's rate."""

    sample_rate_hz: int
    channels: int
    shape: WindowShape
    block_samples: int

    @property
    def hop_samples(self) -> int:
        return self.shape.hop

    @property
    def latency_samples(self) -> int:
        """Exact and constant: from the first sample that a window finishes to the last one it reads, and the rest of
        the block in which that came.
        """
        return self.shape.length - self.shape.margin + self.block_samples - 1

    @property
    def deadlines(self) -> bool:
        return False


def plan_offline(
    card: ModelCard, *, sample_rate_hz: int, channels: int, block_samples: int, max_latency_s: float | None
) -> OfflinePlan | LivePlan:
    """The grid of a bounce if its latency is allowed, else the longest live windows that are; both without deadlines.

    Raises LatencyNotPossible (metadata `possible_latency_s`). What the machine can do plays no part.
    """
    shape = WindowShape(card.window_samples, card.margin_samples, card.fade_samples)
    plan = OfflinePlan(
        sample_rate_hz=sample_rate_hz,
        channels=channels,
        shape=shape.at_rate(card.sample_rate_hz, sample_rate_hz),
        block_samples=max(block_samples, 1),
    )
    if max_latency_s is None or plan.latency_samples <= max_latency_s * sample_rate_hz:
        return plan
    plans = plan_without_deadlines(card, sample_rate_hz=sample_rate_hz, channels=channels, block_samples=block_samples)
    within = [live for live in plans if live.latency_s <= max_latency_s]
    if not within:
        possible_s = min((live.latency_s for live in plans), default=plan.latency_samples / sample_rate_hz)
        raise LatencyNotPossible(
            f"model {card.name} has no windows for a latency of {1000 * max_latency_s:.0f} ms; "
            f"its smallest is {1000 * possible_s:.0f} ms",
            possible_latency_s=f"{possible_s:.6f}",
        )
    return within[-1]


@dataclass(slots=True)
class _Segment:
    """What belongs to one unbroken run of blocks, from `start` on."""

    start: int
    history: History
    overlap: OverlapAdd
    length: int | None = None  # once it is known
    next_window: int = 0
    next_out: int = 0
    waiting: dict[int, WindowResult] = field(default_factory=dict)


class OfflineSession:
    """Blocks in, windows out; results in, stems out, as LiveSession does it, but every stem comes."""

    settings: SeparationSettings
    """May be set at any time; holds from the next window on."""

    def __init__(self, plan: OfflinePlan, model: str, settings: SeparationSettings) -> None:
        self.plan, self.model, self.settings = plan, model, settings
        self.epoch = 0
        self.segment = 0
        self._now: _Segment | None = None
        self._consumed = 0

    @property
    def consumed_samples(self) -> int:
        return self._consumed

    def feed(self, start_sample: int, audio_CN: Audio, now_s: float = math.inf) -> list[LiveWindow]:
        """Take a block; a block that does not follow the last one begins anew, as after a flush."""
        if self._now is not None and start_sample != self._now.history.end:
            self._forget()
        if self._now is None:
            self._now = self._new_segment(start_sample)
        windows = []
        for first in range(0, audio_CN.shape[1], self.plan.hop_samples):
            self._now.history.append(audio_CN[:, first : first + self.plan.hop_samples])
            windows += self._complete_windows(self._now)
        self._consumed = self._now.history.end
        return windows

    def flush(self) -> None:
        """A transport jump: the past is forgotten, the next block may start anywhere."""
        self.epoch += 1
        self._forget()

    def finish(self, now_s: float = math.inf) -> list[LiveWindow]:
        """The stream has ended: the windows that bring out its tail, and none that a bounce would not compute."""
        segment = self._now
        if segment is None or segment.length is not None:
            return []
        segment.length = segment.history.end - segment.start
        windows = []
        while segment.next_window < window_count(self.plan.shape, segment.length):
            stop = segment.start + Window(segment.next_window, self.plan.shape).stop
            segment.history.append_silence(stop - segment.history.end)
            windows += self._complete_windows(segment)
        return windows

    def accept(self, window: LiveWindow, result: WindowResult) -> list[LiveStems | LiveDropped]:
        """What a computed window finishes; results may come in any order, stems leave in order."""
        segment = self._now
        if segment is None or window.segment != self.segment:
            return []  # from before a jump: nobody wants it any more
        segment.waiting[window.index] = result
        out: list[LiveStems | LiveDropped] = []
        while segment.next_out in segment.waiting:
            settled = segment.waiting.pop(segment.next_out)
            grid = Window(segment.next_out, self.plan.shape)
            segment.next_out += 1
            first, finished_SCN = segment.overlap.push(grid, settled.stems_SCN)
            if segment.length is not None:
                finished_SCN = finished_SCN[..., : segment.length - first]
            out.append(LiveStems(self.epoch, segment.start + first, finished_SCN, settled.compute_s))
        return out

    def drop(self, window: LiveWindow, message: str) -> list[LiveStems | LiveDropped]:
        raise AssertionError(f"window {window.index} has no deadline to miss: {message}")

    def _forget(self) -> None:
        self._now = None
        self.segment += 1

    def _new_segment(self, start: int) -> _Segment:
        length = self.plan.shape.length
        history = History(self.plan.channels, start=start, keep=length, most=length)
        return _Segment(start=start, history=history, overlap=OverlapAdd(self.plan.shape, sys.maxsize))

    def _complete_windows(self, segment: _Segment) -> list[LiveWindow]:
        windows = []
        while segment.history.end >= segment.start + Window(segment.next_window, self.plan.shape).stop:
            windows.append(self._cut(segment, Window(segment.next_window, self.plan.shape)))
            segment.next_window += 1
        return windows

    def _cut(self, segment: _Segment, grid: Window) -> LiveWindow:
        audio_CN = segment.history.cut(segment.start + grid.start, segment.start + grid.stop)
        keep = (grid.keep_start - grid.start, grid.keep_stop - grid.start)
        # The position is that in the file which this segment is, or the refiner would draw other noise.
        request = WindowRequest(self.model, audio_CN, self.plan.sample_rate_hz, grid.start, keep, self.settings)
        return LiveWindow(self.segment, grid.index, request, math.inf)
