"""When to compute which window: live by deadline, then bounces in turn."""

import math

from pyserver.engine.messages import WindowRequest, WindowResult
from pyserver.engine.process import EngineProcess


class Scheduler:
    """One queue for the engine. The next window is chosen as late as possible: when the engine is free for it."""

    def __init__(self, engine: EngineProcess) -> None:
        raise NotImplementedError

    async def submit(self, request: WindowRequest, *, owner: str, deadline: float = math.inf) -> WindowResult:
        """Wait for a turn and for the result.

        `deadline` is in seconds of `time.monotonic`; with one, the window is live and goes before all bounces,
        earliest first; without one, owners take turns. Cancelling the caller takes the window out of the queue.
        Raises DeadlineMissed if a live window's time is over before it could be started.
        """
        raise NotImplementedError

    @property
    def waiting_live(self) -> int:
        """Live windows in the queue, not counting those in the engine."""
        raise NotImplementedError

    @property
    def waiting_bounce(self) -> int:
        """Bounce windows in the queue, not counting those in the engine."""
        raise NotImplementedError
