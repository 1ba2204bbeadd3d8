"""Which live sessions this machine can hold beside those it has promised a latency already."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from stems.v1 import live_pb2

from pyserver.audio.channels import channel_groups
from pyserver.engine.messages import LoadedModel, SeparationSettings
from pyserver.models.card import ModelCard
from pyserver.separation.errors import TooManyLiveSessions
from pyserver.separation.live_plan import LiveCosts, LivePlan, plan_live
from pyserver.separation.offline import plan_offline
from pyserver.service import wire
from pyserver.service.core import Core

_SLOWER = 1.25  # than measured: what a window may need on a machine that is less idle
_MOST_OFFLINE = 128  # sessions: each holds some seconds of audio


class Admission:
    """Keeps the books of open live sessions.

    It reckons as if windows were computed one after the other. Batches, which the engine uses only where they are
    faster, can make that no worse: each holds one window of a session at most.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._open: dict[str, LivePlan] = {}
        self._offline = 0
        self._deciding = asyncio.Lock()

    @asynccontextmanager
    async def admitted(
        self, session_id: str, card: ModelCard, request: live_pb2.LiveOpen
    ) -> AsyncIterator[tuple[LivePlan, SeparationSettings]]:
        """A place for a session as long as the context lasts.

        Raises LatencyNotPossible, or TooManyLiveSessions if those that are open would suffer. Offline sessions are
        no burden to the others: their windows wait their turn among those of bounces.
        """
        settings = wire.settings(request.quality, card)
        loaded = await self._core.engine.load(card.name)
        if request.pace == live_pb2.PACE_OFFLINE:
            if self._offline >= _MOST_OFFLINE:
                raise TooManyLiveSessions(f"{self._offline} offline sessions are open, as many as this server allows")
            self._offline += 1
            try:
                yield _plan_offline(card, request), settings
            finally:
                self._offline -= 1
            return
        async with self._deciding:
            self._open[session_id] = plan = self._decide(card, loaded, request, settings)
        try:
            yield plan, settings
        finally:
            del self._open[session_id]

    def _decide(
        self, card: ModelCard, loaded: LoadedModel, request: live_pb2.LiveOpen, settings: SeparationSettings
    ) -> LivePlan:
        if len(self._open) >= self._core.max_live_sessions:
            raise TooManyLiveSessions(f"{len(self._open)} live sessions are open, as many as this server allows")
        once_s = loaded.live_base_s + loaded.live_step_s * settings.refiner_steps
        window_s = once_s * len(channel_groups(request.audio.channels, card.channels))
        blocking_s = 0.0 if self._core.engine.device.live_preempts else loaded.bounce_window_s
        costs = LiveCosts(
            window_s=window_s,
            blocking_s=blocking_s,
            other_live_s=self._turns_s,
            other_load=sum(other.load for other in self._open.values()),
        )
        plan = plan_live(
            card,
            sample_rate_hz=request.audio.sample_rate_hz,
            channels=request.audio.channels,
            block_samples=request.block_samples,
            costs=costs,
            max_latency_s=_max_latency_s(request),
        )
        self._require_room_for(plan, blocking_s)
        return plan

    @property
    def _turns_s(self) -> float:
        """What one window of every open session takes."""
        return sum(plan.turn_s for plan in self._open.values())

    def _require_room_for(self, plan: LivePlan, blocking_s: float) -> None:
        """Each open session must stay in time even if a window of every other one is computed before its own."""
        if not self._open:
            return
        tightest_s = min(other.allowance_samples / other.sample_rate_hz for other in self._open.values()) - blocking_s
        room_s = max(0.0, tightest_s / _SLOWER - self._turns_s)
        if plan.turn_s > room_s:
            smaller = ", or choose fewer refiner steps or a smaller model" if room_s else ""
            raise TooManyLiveSessions(
                f"another live session would make those that are open ({len(self._open)}) late, whatever its own "
                f"latency: its windows take {1000 * plan.turn_s:.0f} ms, and there is room for {1000 * room_s:.0f} ms; "
                f"close one first{smaller}",
                open_sessions=len(self._open),
                window_s=f"{plan.turn_s:.6f}",
                room_s=f"{room_s:.6f}",
            )


def _plan_offline(card: ModelCard, request: live_pb2.LiveOpen) -> LivePlan:
    return plan_offline(
        card,
        sample_rate_hz=request.audio.sample_rate_hz,
        channels=request.audio.channels,
        block_samples=request.block_samples,
        max_latency_s=_max_latency_s(request),
    )


def _max_latency_s(request: live_pb2.LiveOpen) -> float | None:
    return request.max_latency.ToNanoseconds() / 1e9 if request.HasField("max_latency") else None
