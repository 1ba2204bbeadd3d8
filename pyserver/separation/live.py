"""A live session as arithmetic: the windows that a stream of blocks makes, and the stems they give. Knows no clock.

    |--------- past ---------|fade|------ hop ------|look-ahead|     window k
                                              |fade|------ hop ------|look-ahead|     window k + 1

Window k is complete when the last sample of its look-ahead has arrived; it then gives `hop` finished samples, of which
the first lies `fade` before its hop. Stems of the sample at p are due when the sample at p + latency has been sent:
latency = fade + hop + look-ahead + the time allowed for computing + the rest of the block in which the window ended.
Axes: S stems, C channels, N samples, F samples of a fade.
"""

import math
from dataclasses import dataclass, field, replace

import numpy as np

from pyserver.engine.messages import Audio, SeparationSettings, WindowRequest, WindowResult
from pyserver.models.card import ModelCard
from pyserver.separation.errors import LatencyNotPossible, TooManyLiveSessions
from pyserver.separation.history import History
from pyserver.separation.windows import fade_in

HOPS_S = (0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0)
_FADE_S = 0.02
_MOST_LOAD = 0.6  # share of its hop that computing a window may take: machines are never as idle as when measured
_MOST_TOTAL_LOAD = 0.8  # of all sessions together
_SLOWER = 2.5  # a window is allowed this many times its measured time,
_OVERHEAD_S = 0.05  # and this for the way there and back
_RESAMPLING = 1.15  # what windows at another rate cost more


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveCosts:
    """What this machine was measured to need, in seconds. `other_live_s`: one window of each other open session."""

    window_s: float
    blocking_s: float  # one bounce window, where a live window has to wait for it; else 0
    other_live_s: float = 0.0
    other_load: float = 0.0  # share of the engine's time the other open sessions take


@dataclass(frozen=True, slots=True, kw_only=True)
class LivePlan:
    """The fixed numbers of a session, in samples at the client's rate."""

    sample_rate_hz: int
    channels: int
    stems: int
    window_samples: int
    hop_samples: int
    fade_samples: int
    lookahead_samples: int
    allowance_samples: int
    block_samples: int
    load: float  # share of the engine's time this session takes
    deadlines: bool = True  # without them a late window is waited for, not dropped

    @property
    def latency_samples(self) -> int:
        """Exact and constant; for clients that send blocks of at most `block_samples`."""
        context = self.fade_samples + self.hop_samples + self.lookahead_samples
        return context + self.allowance_samples + self.block_samples - 1

    @property
    def latency_s(self) -> float:
        return self.latency_samples / self.sample_rate_hz


def plan_live(
    card: ModelCard,
    *,
    sample_rate_hz: int,
    channels: int,
    block_samples: int,
    costs: LiveCosts,
    max_latency_s: float | None,
) -> LivePlan:
    """Without `max_latency_s`, the smallest latency this machine can hold; with it, the cheapest plan within it.

    Raises LatencyNotPossible (metadata `possible_latency_s` where there is one), TooManyLiveSessions.
    """
    window_s = costs.window_s * (1.0 if sample_rate_hz == card.sample_rate_hz else _RESAMPLING)
    allowance_s = costs.blocking_s + costs.other_live_s + _SLOWER * window_s + _OVERHEAD_S
    plans = [
        replace(
            plan,
            allowance_samples=round(allowance_s * sample_rate_hz),
            load=window_s * sample_rate_hz / plan.hop_samples,
            deadlines=True,
        )
        for plan in plan_without_deadlines(
            card, sample_rate_hz=sample_rate_hz, channels=channels, block_samples=block_samples
        )
    ]
    possible = [plan for plan in plans if plan.load <= _MOST_LOAD]
    if not possible:
        raise LatencyNotPossible(
            f"model {card.name} is too slow for live use here: {window_s:.2f} s for each window; "
            "use a smaller model, fewer refiner steps or a GPU"
        )
    beside_others = [plan for plan in possible if costs.other_load + plan.load <= _MOST_TOTAL_LOAD]
    if not beside_others:
        raise TooManyLiveSessions(
            f"the live sessions that are open take {100 * costs.other_load:.0f} % of this machine; close one first"
        )
    smallest = beside_others[0]
    if max_latency_s is None:
        return smallest
    within = [plan for plan in beside_others if plan.latency_s <= max_latency_s]
    if not within:
        raise LatencyNotPossible(
            f"a latency of {1000 * max_latency_s:.0f} ms cannot be held here with model {card.name}; "
            f"the smallest that can is {1000 * smallest.latency_s:.0f} ms",
            possible_latency_s=f"{smallest.latency_s:.6f}",
        )
    return within[-1]


def plan_without_deadlines(
    card: ModelCard, *, sample_rate_hz: int, channels: int, block_samples: int
) -> list[LivePlan]:
    """One plan for each hop that the model's window has room for, the smallest latency first."""
    scale = sample_rate_hz / card.sample_rate_hz
    plans = [
        LivePlan(
            sample_rate_hz=sample_rate_hz,
            channels=channels,
            stems=len(card.stems),
            window_samples=round(card.live_window_samples * scale),
            hop_samples=round(hop_s * sample_rate_hz),
            fade_samples=min(round(_FADE_S * sample_rate_hz), round(card.fade_samples * scale)),
            lookahead_samples=round(card.live_lookahead_samples * scale),
            allowance_samples=0,
            block_samples=max(block_samples, 1),
            load=0.0,
            deadlines=False,
        )
        for hop_s in HOPS_S
    ]
    return [plan for plan in plans if _has_past(plan)]


def _has_past(plan: LivePlan) -> bool:
    """Whether the window still reaches back behind its hop as far as it looks ahead of it."""
    return plan.window_samples >= plan.hop_samples + plan.fade_samples + 2 * plan.lookahead_samples


@dataclass(frozen=True, slots=True)
class LiveWindow:
    """A window to compute, and until when (seconds on the clock that `feed` was given)."""

    segment: int
    index: int
    request: WindowRequest
    deadline_s: float


@dataclass(frozen=True, slots=True)
class LiveStems:
    """Finished stems from `start_sample` on; `epoch` is the number of flushes asked for before this audio."""

    epoch: int
    start_sample: int
    stems_SCN: Audio
    compute_s: float


@dataclass(frozen=True, slots=True)
class LiveDropped:
    """Samples whose stems will not come."""

    epoch: int
    start_sample: int
    num_samples: int
    message: str


@dataclass(slots=True)
class _Segment:
    """What belongs to one unbroken run of blocks, from `start` on."""

    start: int
    began_s: float
    history: History
    stop: int | None = None  # the end of the stream, once it is known
    next_window: int = 0
    next_out: int = 0
    waiting: "dict[int, WindowResult | str]" = field(default_factory=dict)  # a string: why the window was given up
    tail_SCF: Audio | None = None


class LiveSession:
    """Blocks in, windows out; results in, stems out, at exact positions and without gaps but those it names."""

    settings: SeparationSettings
    """May be set at any time; holds from the next window on."""

    def __init__(self, plan: LivePlan, model: str, settings: SeparationSettings) -> None:
        self.plan, self.model, self.settings = plan, model, settings
        self.epoch = 0
        self.segment = 0
        """Counts the runs of blocks: grows with every flush and with every block that does not follow the last."""
        self._now: _Segment | None = None
        self._consumed = 0
        self._rise_F = fade_in(plan.fade_samples)

    @property
    def consumed_samples(self) -> int:
        """Where the next block is expected: how far the client's stream has been read."""
        return self._consumed

    def feed(self, start_sample: int, audio_CN: Audio, now_s: float) -> list[LiveWindow]:
        """Take a block; a block that does not follow the last one begins anew, as after a flush.

        `now_s` is when the block arrived; deadlines are counted from it.
        """
        if self._now is not None and start_sample != self._now.history.end:
            self._forget()
        if self._now is None:
            self._now = self._new_segment(start_sample, now_s)
        windows = []
        for first in range(0, audio_CN.shape[1], self.plan.hop_samples):
            self._now.history.append(audio_CN[:, first : first + self.plan.hop_samples])
            windows += self._complete_windows(self._now, now_s)
        self._consumed = self._now.history.end
        return windows

    def flush(self) -> None:
        """A transport jump: the past is forgotten, the next block may start anywhere."""
        self.epoch += 1
        self._forget()

    def finish(self, now_s: float) -> list[LiveWindow]:
        """The stream has ended: the windows that bring out its tail."""
        segment = self._now
        if segment is None or segment.stop is not None:
            return []
        segment.stop = segment.history.end
        windows = []
        while self._out_stop(segment, segment.next_window - 1) < segment.stop:
            segment.history.append_silence(self._complete_at(segment, segment.next_window) - segment.history.end)
            windows += self._complete_windows(segment, now_s)
        return windows

    def accept(self, window: LiveWindow, result: WindowResult) -> list[LiveStems | LiveDropped]:
        """What a computed window finishes; results may come in any order, stems leave in order."""
        return self._settle(window, result)

    def drop(self, window: LiveWindow, message: str) -> list[LiveStems | LiveDropped]:
        """Give a window up: its samples are reported as dropped, and nothing is shifted."""
        return self._settle(window, message)

    def _forget(self) -> None:
        self._now = None
        self.segment += 1

    def _new_segment(self, start: int, now_s: float) -> _Segment:
        plan = self.plan
        most = plan.hop_samples + plan.lookahead_samples  # what `finish` may have to add
        history = History(plan.channels, start=start, keep=plan.window_samples, most=most)
        return _Segment(start=start, began_s=now_s, history=history)

    def _complete_at(self, segment: _Segment, index: int) -> int:
        return segment.start + (index + 1) * self.plan.hop_samples + self.plan.lookahead_samples

    def _out_stop(self, segment: _Segment, index: int) -> int:
        """Up to where stems are finished when windows 0 to `index` are."""
        return segment.start + max(0, (index + 1) * self.plan.hop_samples - self.plan.fade_samples)

    def _complete_windows(self, segment: _Segment, now_s: float) -> list[LiveWindow]:
        windows = []
        while segment.history.end >= self._complete_at(segment, segment.next_window):
            windows.append(self._cut(segment, segment.next_window, now_s))
            segment.next_window += 1
        return windows

    def _cut(self, segment: _Segment, index: int, now_s: float) -> LiveWindow:
        plan = self.plan
        stop = self._complete_at(segment, index)
        audio_CN = segment.history.cut(stop - plan.window_samples, stop)
        keep_stop = plan.window_samples - plan.lookahead_samples
        keep = (keep_stop - plan.hop_samples - plan.fade_samples, keep_stop)
        request = WindowRequest(
            self.model, audio_CN, plan.sample_rate_hz, stop - plan.window_samples, keep, self.settings
        )
        if not plan.deadlines:
            return LiveWindow(self.segment, index, request, math.inf)
        # Who sends faster than real time still has until real time catches up.
        due_s = max(now_s, segment.began_s + (stop - segment.start) / plan.sample_rate_hz)
        return LiveWindow(self.segment, index, request, due_s + plan.allowance_samples / plan.sample_rate_hz)

    def _settle(self, window: LiveWindow, outcome: WindowResult | str) -> list[LiveStems | LiveDropped]:
        segment = self._now
        if segment is None or window.segment != self.segment:
            return []  # from before a jump: nobody wants it any more
        segment.waiting[window.index] = outcome
        out: list[LiveStems | LiveDropped] = []
        while segment.next_out in segment.waiting:
            index, settled = segment.next_out, segment.waiting.pop(segment.next_out)
            segment.next_out += 1
            start, stop = self._out_stop(segment, index - 1), self._out_stop(segment, index)
            stop = stop if segment.stop is None else min(stop, segment.stop)
            if isinstance(settled, str):
                segment.tail_SCF = None
                out.append(LiveDropped(self.epoch, start, stop - start, settled))
            else:
                out.append(LiveStems(self.epoch, start, self._joined(segment, index, settled, stop), settled.compute_s))
        return out

    def _joined(self, segment: _Segment, index: int, result: WindowResult, stop: int) -> Audio:
        """The finished samples of a window, cross-faded with the one before; after a dropped one, its own alone."""
        fade, stems_SCN = self.plan.fade_samples, result.stems_SCN
        finished_SCN = stems_SCN[..., : stems_SCN.shape[-1] - fade].astype(np.float32, copy=True)
        if segment.tail_SCF is not None:
            finished_SCN[..., :fade] *= self._rise_F
            finished_SCN[..., :fade] += segment.tail_SCF
        segment.tail_SCF = stems_SCN[..., stems_SCN.shape[-1] - fade :] * (1 - self._rise_F)
        first = fade if index == 0 else 0  # before its first sample a segment has nothing
        start = self._out_stop(segment, index - 1)
        return np.ascontiguousarray(finished_SCN[..., first : first + stop - start])
