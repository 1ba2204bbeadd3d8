"""What a back end has to do. The worker knows nothing else of it; only its own module imports its libraries."""

from collections.abc import Sequence
from typing import Protocol

from pyserver.engine.messages import (
    BatchResult,
    DeviceInfo,
    LoadedModel,
    WalkRequest,
    WalkResult,
    WindowRequest,
    WindowResult,
)


class DeviceLost(Exception):
    """The device is in a state that only a new process can clear; the worker ends itself and its parent restarts it."""


class Backend(Protocol):
    """Models on one device. Raises StemlineErrors only for causes a user can act on."""

    @property
    def device(self) -> DeviceInfo: ...

    def load(self, model: str, *, measure: bool) -> LoadedModel:
        """Verify, load and warm a model; with `measure` also time its windows. Loading again is cheap."""
        ...

    def unload(self, model: str) -> None:
        """Give its memory back. A model that is not loaded is no error."""
        ...

    def separate(self, requests: Sequence[WindowRequest]) -> list[WindowResult]:
        """Results in the order of the requests; models that are not loaded yet are loaded. Called from two threads."""
        ...

    def separate_together(self, requests: Sequence[WindowRequest]) -> BatchResult:
        """Windows of one shape as one batch, for live: stems may differ from those computed alone by float rounding.

        A window that fails fails alone.
        """
        ...

    def walk(self, request: WalkRequest) -> WalkResult:
        """Some steps of a walk from noise to stems. Called from two threads."""
        ...
