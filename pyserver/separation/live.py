"""A live session as arithmetic: the windows that a stream of blocks makes, and the stems they give. Knows no clock.

An unbroken run of blocks is a segment. A jump ends it as the end of the stream would: its last windows are cut at
once, with silence behind them, and its stems still come while the next segment is being read. So the stems of each
sample come one latency after it, jumps or not, and each segment's are those that it would have alone.
Axes: S stems, C channels, N samples, F samples of a fade.
"""

import math
from dataclasses import dataclass, field

from pyserver.engine.messages import Audio, SeparationSettings, WindowRequest, WindowResult
from pyserver.separation.history import History
from pyserver.separation.live_plan import LivePlan
from pyserver.separation.windows import fade_in

MOST_FINISHING = 4
"""Segments that have ended with windows still to be computed; bounds what who scrubs makes us keep and compute."""


@dataclass(frozen=True, slots=True)
class LiveWindow:
    """A window to compute, and until when (seconds on the clock that `feed` was given)."""

    segment: int
    index: int
    request: WindowRequest
    deadline_s: float


@dataclass(frozen=True, slots=True)
class LiveStems:
    """Finished stems from `start_sample` on; `epoch` is the number of flushes before the audio they were made of.

    `consumed_samples` is how far the segment they belong to had been read when they were finished.
    """

    epoch: int
    start_sample: int
    stems_SCN: Audio
    compute_s: float
    consumed_samples: int


@dataclass(frozen=True, slots=True)
class LiveDropped:
    """Samples whose stems will not come."""

    epoch: int
    start_sample: int
    num_samples: int
    message: str


@dataclass(slots=True)
class _Segment:
    """One unbroken run of blocks. Positions in here count from its first sample, which the client calls `start`."""

    plan: LivePlan
    number: int
    epoch: int
    start: int
    began_s: float  # when its first block came; later if what was before it had been sent faster than real time
    arrived_s: float  # when its last block came
    length: int = 0  # so far
    ended: bool = False
    _history: History | None = None
    _next_window: int = 0
    _outcomes: "dict[int, WindowResult | str]" = field(default_factory=dict)  # a string: why the window was given up
    _next_out: int = 0
    _out_to: int = 0
    _broken_off: str | None = None
    _tail_SCF: Audio | None = None

    def __post_init__(self) -> None:
        plan = self.plan
        most = plan.hop_samples + plan.lookahead_samples  # what `end` may have to add
        self._history = History(plan.channels, start=0, keep=plan.window_samples, most=most)

    @property
    def settled(self) -> bool:
        """Whether of each of its samples the stems are out, or it was said that there will be none."""
        return self.ended and self._out_to == self.length

    @property
    def finishing(self) -> bool:
        """Whether it has ended and windows of it are still to be computed."""
        return self.ended and self._next_out + len(self._outcomes) < self._next_window

    def complete_at(self, index: int) -> int:
        """Where window `index` stops."""
        return (index + 1) * self.plan.hop_samples + self.plan.lookahead_samples

    def append(self, audio_CN: Audio) -> list[tuple[int, Audio]]:
        """Take at most a hop; gives the windows which that completes."""
        assert self._history is not None
        self._history.append(audio_CN)
        self.length += audio_CN.shape[1]
        return self._complete_windows(self._history)

    def end(self) -> list[tuple[int, Audio]]:
        """There is no more: gives the windows that the rest needs, and none that a file of this length would not."""
        history, windows = self._history, []
        assert history is not None
        self._history, self.ended = None, True
        while self._finished_to(self._next_window - 1) < self.length:
            history.append_silence(self.complete_at(self._next_window) - history.end)
            windows += self._complete_windows(history)
        return windows

    def break_off(self, why: str) -> None:
        """There is no more, and of what no window has been cut for there will be no stems."""
        self._history, self.ended, self._broken_off = None, True, why

    def settle(self, index: int, outcome: WindowResult | str) -> None:
        """What became of a window; a string says why it was given up."""
        self._outcomes[index] = outcome

    def take(self) -> list[LiveStems | LiveDropped]:
        """What the outcomes so far have finished, in order."""
        out: list[LiveStems | LiveDropped] = []
        while self._next_out in self._outcomes:
            outcome = self._outcomes.pop(self._next_out)
            stop = min(self._finished_to(self._next_out), self.length)
            if isinstance(outcome, str):
                self._tail_SCF = None
                out.append(self._dropped(stop, outcome))
            else:
                stems_SCN = self._joined(outcome.stems_SCN, stop - self._out_to)
                begin, read_to = self.start + self._out_to, self.start + self.length
                out.append(LiveStems(self.epoch, begin, stems_SCN, outcome.compute_s, read_to))
            self._next_out, self._out_to = self._next_out + 1, stop
        if self._broken_off is not None and self._next_out == self._next_window:
            out.append(self._dropped(self.length, self._broken_off))
            self._out_to = self.length
        return out

    def _dropped(self, stop: int, message: str) -> LiveDropped:
        return LiveDropped(self.epoch, self.start + self._out_to, stop - self._out_to, message)

    def _finished_to(self, index: int) -> int:
        """Up to where stems are finished when windows 0 to `index` are."""
        return max(0, (index + 1) * self.plan.hop_samples - self.plan.fade_samples)

    def _complete_windows(self, history: History) -> list[tuple[int, Audio]]:
        windows = []
        while history.end >= (stop := self.complete_at(self._next_window)):
            windows.append((self._next_window, history.cut(stop - self.plan.window_samples, stop)))
            self._next_window += 1
        return windows

    def _joined(self, stems_SCN: Audio, count: int) -> Audio:
        """The next `count` samples, cross-faded with the window before; after a dropped one, this one's own alone.

        A window's stems are its result's own: they are changed where they are, and part of them is given out.
        """
        fade, rise_F = self.plan.fade_samples, fade_in(self.plan.fade_samples)
        tail_SCF = stems_SCN[..., stems_SCN.shape[-1] - fade :] * (1 - rise_F)
        if self._tail_SCF is not None:
            stems_SCN[..., :fade] *= rise_F
            stems_SCN[..., :fade] += self._tail_SCF
        self._tail_SCF = tail_SCF
        first = fade if self._next_out == 0 else 0  # before its first sample a segment has nothing
        return stems_SCN[..., first : first + count]


class LiveSession:
    """Blocks in, windows out; results in, stems out, at exact positions and without gaps but those it names.

    Stems leave in the order in which their samples came, those of one segment before those of the next.
    """

    settings: SeparationSettings
    """May be set at any time; holds from the next window on."""

    def __init__(self, plan: LivePlan, model: str, settings: SeparationSettings) -> None:
        self.plan, self.model, self.settings = plan, model, settings
        self.epoch = 0
        self.consumed_samples = 0
        """Where the next block is expected: how far the client's stream has been read."""
        self._segments: dict[int, _Segment] = {}  # of which stems are still to come: by number, the oldest first
        self._open: _Segment | None = None  # the last of them, if it still grows
        self._begun = 0
        self._sent_s = -math.inf  # when the last segment has been sent, for who sends in real time

    def feed(self, start_sample: int, audio_CN: Audio, now_s: float) -> list[LiveWindow]:
        """Take a block. One that does not follow the last begins a new segment, as after a flush.

        `now_s` is when the block arrived; deadlines are counted from it.
        """
        if not audio_CN.shape[1]:
            return []
        windows = [] if start_sample == self.consumed_samples else self._jump()
        if self._open is None:
            self._open = self._begin(start_sample, now_s)
        self._open.arrived_s = now_s
        for first in range(0, audio_CN.shape[1], self.plan.hop_samples):
            cut = self._open.append(audio_CN[:, first : first + self.plan.hop_samples])
            windows += self._windows(self._open, cut)
        self.consumed_samples = start_sample + audio_CN.shape[1]
        return windows

    def flush(self) -> list[LiveWindow]:
        """A transport jump: the open segment ends, the next block may start anywhere."""
        self.epoch += 1
        return self._jump()

    def finish(self) -> list[LiveWindow]:
        """The stream has ended: the windows that bring out the rest of its stems."""
        segment, self._open = self._open, None
        return [] if segment is None else self._windows(segment, segment.end())

    def accept(self, window: LiveWindow, result: WindowResult) -> list[LiveStems | LiveDropped]:
        """What a computed window finishes; results may come in any order, stems leave in order."""
        return self._settle(window, result)

    def drop(self, window: LiveWindow, message: str) -> list[LiveStems | LiveDropped]:
        """Give a window up: its samples are reported as dropped, and nothing is shifted."""
        assert self.plan.deadlines, f"window {window.index} has no deadline to miss: {message}"
        return self._settle(window, message)

    @property
    def crowded(self) -> bool:
        """Whether as many segments are being finished as may be. With deadlines a jump then costs the open one its
        last samples: if older ones were given up instead, in a storm of jumps no window would ever be of use.
        """
        return sum(segment.finishing for segment in self._segments.values()) >= MOST_FINISHING

    def _jump(self) -> list[LiveWindow]:
        segment = self._open
        if segment is None:
            return []
        self._sent_s = segment.began_s + segment.length / self.plan.sample_rate_hz
        if not (self.plan.deadlines and self.crowded):
            return self.finish()
        segment.break_off(f"there were jumps before, and {MOST_FINISHING} passages are still being finished")
        self._open = None
        return []

    def _begin(self, start: int, now_s: float) -> _Segment:
        # Who sends faster than real time still has until real time catches up, across jumps as well.
        began_s = max(now_s, self._sent_s)
        segment = _Segment(self.plan, self._begun, self.epoch, start, began_s, now_s)
        self._segments[self._begun] = segment
        self._begun += 1
        return segment

    def _windows(self, segment: _Segment, cut: list[tuple[int, Audio]]) -> list[LiveWindow]:
        plan, windows = self.plan, []
        keep_stop = plan.window_samples - plan.lookahead_samples
        keep = (keep_stop - plan.hop_samples - plan.fade_samples, keep_stop)
        # As in a bounce of the file that the segment then is, or the refiner would draw other noise.
        origin = 0 if plan.bounce_windows else segment.start
        for index, audio_CN in cut:
            position = origin + segment.complete_at(index) - plan.window_samples
            request = WindowRequest(self.model, audio_CN, plan.sample_rate_hz, position, keep, self.settings)
            windows.append(LiveWindow(segment.number, index, request, self._deadline_s(segment, index)))
        return windows

    def _deadline_s(self, segment: _Segment, index: int) -> float:
        """A window cut before its time, at the end of its segment, has until when it would have been due without."""
        if not self.plan.deadlines:
            return math.inf
        rate, stop = self.plan.sample_rate_hz, segment.complete_at(index)
        behind = max(0, stop - segment.length)  # the end, and made of silence
        due_s = max(segment.began_s + stop / rate, segment.arrived_s + behind / rate)
        return due_s + self.plan.allowance_samples / rate

    def _settle(self, window: LiveWindow, outcome: WindowResult | str) -> list[LiveStems | LiveDropped]:
        self._segments[window.segment].settle(window.index, outcome)
        out: list[LiveStems | LiveDropped] = []
        for number, segment in list(self._segments.items()):
            out += segment.take()
            if not segment.settled:
                break  # what comes after it waits
            del self._segments[number]
        return out
