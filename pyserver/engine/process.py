"""The API process's handle on the engine process: starts it, feeds it, and starts it again when it dies."""

from collections.abc import Callable
from dataclasses import dataclass

from pyserver.engine.messages import DeviceInfo, LoadedModel, WindowRequest, WindowResult


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """`device` is "cpu", "cuda:N" or "auto" (a GPU if there is one); `threads` 0 means one for each physical core."""

    device: str = "auto"
    threads: int = 0
    warm_model: str | None = None


class EngineProcess:
    """Owns one engine process at a time. Every method runs on the event loop that called `start`."""

    def __init__(self, config: EngineConfig, *, on_restart: Callable[[], None] | None = None) -> None:
        """`on_restart` is called on the event loop each time a dead engine has been replaced."""
        raise NotImplementedError

    @property
    def device(self) -> DeviceInfo:
        """The device as the engine found it (memory figures are those of its start)."""
        raise NotImplementedError

    @property
    def pid(self) -> int:
        raise NotImplementedError

    @property
    def restarts(self) -> int:
        raise NotImplementedError

    async def start(self) -> None:
        """Return when the engine is up and has warmed its model. Raises GpuNotAvailable."""
        raise NotImplementedError

    async def run(self, request: WindowRequest, *, urgent: bool = False) -> WindowResult:
        """Separate a window; if the engine dies meanwhile, the window is sent again to the next one.

        Urgent windows (live) overtake others. Cancelling gives up the result, not the computation.
        Raises EngineCrashed after three deaths over the same window, EngineClosed, and what the pipeline raises.
        """
        raise NotImplementedError

    async def load(self, model: str, *, measure: bool = True) -> LoadedModel:
        """Verify, load and warm a model; with `measure` also time it (once, a few seconds)."""
        raise NotImplementedError

    async def unload(self, model: str) -> None:
        raise NotImplementedError

    def loaded(self, model: str) -> LoadedModel | None:
        """What is known of a model that this engine has loaded, without asking it."""
        raise NotImplementedError

    async def close(self) -> None:
        """End the engine process; windows still waiting raise EngineClosed."""
        raise NotImplementedError
