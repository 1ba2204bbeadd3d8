"""A live session at work: LiveSession's windows go to the scheduler, its stems come out in order."""

from collections.abc import AsyncIterator

from pyserver.engine.messages import Audio
from pyserver.separation.live import LiveDropped, LiveSession, LiveStems
from pyserver.separation.scheduler import Scheduler


class LiveStream:
    """What the Live service holds for each client. Iterate over it for stems; everything runs on the event loop."""

    def __init__(self, session: LiveSession, scheduler: Scheduler, owner: str) -> None:
        raise NotImplementedError

    def feed(self, start_sample: int, audio_CN: Audio) -> None:
        """Take a block; never waits."""
        raise NotImplementedError

    def flush(self) -> None:
        raise NotImplementedError

    def finish(self) -> None:
        """The client sends no more: iteration ends when the tail is out."""
        raise NotImplementedError

    def __aiter__(self) -> AsyncIterator[LiveStems | LiveDropped]:
        """Stems and dropped ranges in order of position within an epoch. Raises what the engine raises."""
        raise NotImplementedError

    def close(self) -> None:
        """Give up everything still waiting, as when the client has gone."""
        raise NotImplementedError
