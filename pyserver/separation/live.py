"""A live session as arithmetic: which windows a stream of blocks makes, and which stems they give. No asyncio, no clock.

    |--------- past ---------|fade|------ hop ------|look-ahead|     window k
                                              |fade|------ hop ------|look-ahead|     window k + 1

Stems of the sample at p are due when the sample at p + latency has been sent:
latency = fade + hop + look-ahead + the time allowed for computing.
"""

from dataclasses import dataclass

from pyserver.engine.messages import Audio, SeparationSettings, WindowRequest, WindowResult
from pyserver.models.card import ModelCard


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
    load: float  # share of the engine's time this session takes

    @property
    def latency_samples(self) -> int:
        return self.fade_samples + self.hop_samples + self.lookahead_samples + self.allowance_samples


def plan_live(
    card: ModelCard,
    *,
    sample_rate_hz: int,
    channels: int,
    block_samples: int,
    costs: LiveCosts,
    max_latency_s: float | None,
) -> LivePlan:
    """The smallest latency this machine can hold. Raises LatencyNotPossible (metadata `possible_latency_s`)."""
    raise NotImplementedError


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


class LiveSession:
    """Blocks in, windows out; results in, stems out, at exact positions and without gaps but those it names."""

    def __init__(self, plan: LivePlan, model: str, settings: SeparationSettings) -> None:
        raise NotImplementedError

    settings: SeparationSettings  # may be set at any time; holds from the next window on

    @property
    def consumed_samples(self) -> int:
        """Where the next block is expected: how far the client's stream has been read."""
        raise NotImplementedError

    def feed(self, start_sample: int, audio_CN: Audio, now_s: float) -> list[LiveWindow]:
        """Take a block; a block that does not follow the last one begins anew, as after a flush.

        `now_s` is when the block arrived; deadlines are counted from it.
        """
        raise NotImplementedError

    def flush(self) -> None:
        """A transport jump: the past is forgotten, the next block may start anywhere."""
        raise NotImplementedError

    def finish(self, now_s: float) -> list[LiveWindow]:
        """The stream has ended: the windows that bring out its tail."""
        raise NotImplementedError

    def accept(self, window: LiveWindow, result: WindowResult) -> list[LiveStems | LiveDropped]:
        """What a computed window finishes; results may come in any order, stems leave in order."""
        raise NotImplementedError

    def drop(self, window: LiveWindow, message: str) -> list[LiveStems | LiveDropped]:
        """Give a window up: its samples are reported as dropped, and nothing is shifted."""
        raise NotImplementedError
