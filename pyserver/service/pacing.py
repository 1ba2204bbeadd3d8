"""How far a live session reads ahead of what it has sent back: bounds what a fast or stalled client makes us keep."""

import asyncio
from typing import Protocol


class Plan(Protocol):
    """What the service needs to know of a session's plan, whichever its pace."""

    @property
    def channels(self) -> int: ...
    @property
    def hop_samples(self) -> int: ...
    @property
    def latency_samples(self) -> int: ...
    @property
    def deadlines(self) -> bool: ...


def in_flight_blocks(plan: Plan, block_samples: int, asked: int) -> int:
    """How many blocks a client may be ahead of the last `consumed_samples` that it was told.

    It hears nothing before the first stems, a latency after its first block, and then once a hop: with less than a
    latency's worth a client in real time would stall.
    """
    least = -(-plan.latency_samples // block_samples) + 1
    most = -(-(plan.latency_samples + plan.hop_samples) // block_samples) + 1
    return max(least, min(asked or most, most))


class Pacing:
    """Reading waits while of more than the latency's worth of samples neither stems have gone out nor word of none.

    A client in real time never waits: its stems go out within the latency, those from before a jump as well. A faster
    one is slowed to the speed of the engine by gRPC's own flow control, and so is one that does not read its stems.
    """

    def __init__(self, latency_samples: int) -> None:
        self._latency = latency_samples
        self._ahead = 0
        self._moved = asyncio.Event()

    async def room_for(self, num_samples: int) -> None:
        """Returns when so many may be read; they count as read then."""
        while self._ahead > self._latency:
            self._moved.clear()
            await self._moved.wait()
        self._ahead += num_samples

    def went_out(self, num_samples: int) -> None:
        """Stems, or the notice that there will be none, are on their way."""
        self._ahead -= num_samples
        self._moved.set()
