"""The numbers of a live session: which windows, at which latency, and what of the machine that takes.

    |--------- past ---------|fade|------ hop ------|look-ahead|     window k
                                              |fade|------ hop ------|look-ahead|     window k + 1

Window k is complete when the last sample of its look-ahead has arrived; it then gives `hop` finished samples, of which
the first lies `fade` before its hop. Stems of the sample at p are due when the client has sent `latency` samples more:
latency = fade + hop + look-ahead + the time allowed for computing + the rest of the block in which the window ended.
"""

from dataclasses import dataclass, replace

from pyserver.models.card import ModelCard
from pyserver.separation.errors import LatencyNotPossible, TooManyLiveSessions

HOPS_S = (0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0)
_FADE_S = 0.02
_MOST_LOAD = 0.6  # share of its hop that computing a window may take: machines are never as idle as when measured
_MOST_TOTAL_LOAD = 0.8  # of all sessions together
_SLOWER = 2.5  # a window is allowed this many times what it is expected to take,
_OVERHEAD_S = 0.05  # and this for being woken, and for the way there and back
_RESAMPLING = 1.15  # what windows at another rate cost more
_PASSED_ON_S = 1e-3  # what a window takes of the API process,
_BYTES_PASSED_ON_PER_S = 400e6  # and as many bytes of it and of its stems


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveCosts:
    """What this machine was measured to need, in seconds. `other_live_s`: a turn of each other open session."""

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
    turn_s: float = 0.0  # what one of its windows takes, from its last block to its stems on their way
    deadlines: bool = True  # without them a late window is waited for, not dropped
    bounce_windows: bool = False  # the grid of a bounce; noise is that of a file which begins with the segment

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

    What the cheapest plan leaves of `max_latency_s` goes to the time allowed for computing, up to a hop: a machine that
    is busy for a moment then makes nobody late, and there is room for more sessions beside this one.

    Raises LatencyNotPossible (metadata `possible_latency_s` where there is one), TooManyLiveSessions.
    """
    window_s = costs.window_s * (1.0 if sample_rate_hz == card.sample_rate_hz else _RESAMPLING)
    waits_s = costs.blocking_s + costs.other_live_s + _OVERHEAD_S
    plans = [
        _timed(plan, window_s, waits_s)
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
    cheapest = within[-1]
    to_spare = int(max_latency_s * sample_rate_hz) - cheapest.latency_samples
    more = min(to_spare, cheapest.hop_samples)
    return replace(cheapest, allowance_samples=cheapest.allowance_samples + more)


def _timed(plan: LivePlan, window_s: float, waits_s: float) -> LivePlan:
    """With deadlines that leave room for a window to wait so long and be computed in `window_s`."""
    rate, passed_on = plan.sample_rate_hz, plan.window_samples + plan.stems * plan.hop_samples
    turn_s = window_s + _PASSED_ON_S + 4 * plan.channels * passed_on / _BYTES_PASSED_ON_PER_S
    return replace(
        plan,
        allowance_samples=round((waits_s + _SLOWER * turn_s) * rate),
        load=window_s * rate / plan.hop_samples,
        turn_s=turn_s,
        deadlines=True,
    )


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
