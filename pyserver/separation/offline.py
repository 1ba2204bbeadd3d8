"""Plans for live sessions that wait, as while a host renders: where the latency allows it, the grid of a bounce.

With it a segment is treated as a file that begins with its first sample: the same windows, positions (hence noise),
overlap-add and end. So its stems are those that `bounce` writes of that file, sample for sample, whatever the blocks
look like.
"""

from pyserver.models.card import ModelCard
from pyserver.separation.errors import LatencyNotPossible
from pyserver.separation.live_plan import LivePlan, plan_without_deadlines
from pyserver.separation.windows import WindowShape


def plan_offline(
    card: ModelCard, *, sample_rate_hz: int, channels: int, block_samples: int, max_latency_s: float | None
) -> LivePlan:
    """The grid of a bounce if its latency is allowed, else the longest live windows that are; both without deadlines.

    Raises LatencyNotPossible (metadata `possible_latency_s`). What the machine can do plays no part.
    """
    grid = _grid_of_a_bounce(card, sample_rate_hz, channels, block_samples)
    if max_latency_s is None or grid.latency_samples <= max_latency_s * sample_rate_hz:
        return grid
    plans = plan_without_deadlines(card, sample_rate_hz=sample_rate_hz, channels=channels, block_samples=block_samples)
    within = [live for live in plans if live.latency_s <= max_latency_s]
    if not within:
        possible_s = min((live.latency_s for live in plans), default=grid.latency_s)
        raise LatencyNotPossible(
            f"model {card.name} has no windows for a latency of {1000 * max_latency_s:.0f} ms; "
            f"its smallest is {1000 * possible_s:.0f} ms",
            possible_latency_s=f"{possible_s:.6f}",
        )
    return within[-1]


def _grid_of_a_bounce(card: ModelCard, sample_rate_hz: int, channels: int, block_samples: int) -> LivePlan:
    """A live window whose look-ahead is the margin, and whose past therefore is so too."""
    shape = WindowShape(card.window_samples, card.margin_samples, card.fade_samples)
    shape = shape.at_rate(card.sample_rate_hz, sample_rate_hz)
    return LivePlan(
        sample_rate_hz=sample_rate_hz,
        channels=channels,
        stems=len(card.stems),
        window_samples=shape.length,
        hop_samples=shape.hop,
        fade_samples=shape.fade,
        lookahead_samples=shape.margin,
        allowance_samples=0,
        block_samples=max(block_samples, 1),
        load=0.0,
        deadlines=False,
        bounce_windows=True,
    )
