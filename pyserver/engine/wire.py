"""What the API process and the engine process say to each other over their pipe. Needs no torch.

Errors are not pickled as the rest is (pyserver.engine.pipe) but described, so that the API process never imports the
module (and with it torch) that defines them.
"""

import enum
from collections.abc import Iterator
from dataclasses import dataclass, field

from pyserver.engine.messages import DeviceInfo, LoadedModel, WalkRequest, WalkResult, WindowRequest, WindowResult
from pyserver.errors import StemlineError


@dataclass(frozen=True, slots=True)
class RunCall:
    request: WindowRequest
    urgent: bool


@dataclass(frozen=True, slots=True)
class BatchCall:
    """Live windows of one shape."""

    requests: tuple[WindowRequest, ...]


@dataclass(frozen=True, slots=True)
class WalkCall:
    request: WalkRequest


@dataclass(frozen=True, slots=True)
class LoadCall:
    model: str
    measure: bool


@dataclass(frozen=True, slots=True)
class UnloadCall:
    model: str


Call = RunCall | BatchCall | WalkCall | LoadCall | UnloadCall


class Lane(enum.Enum):
    """The engine takes the calls of a lane one after the other, in the order in which they were sent."""

    LIVE = "live"
    BOUNCE = "bounce"
    LOADING = "loading"  # apart from the others: what it measures is not disturbed, and live does not wait for a disk
    ONLY = "engine"


def lane_of(call: Call, *, preempts: bool) -> Lane:
    """Where the device does not preempt, there is only one."""
    if not preempts:
        return Lane.ONLY
    match call:
        case RunCall(urgent=True) | BatchCall():
            return Lane.LIVE
        case RunCall() | WalkCall():
            return Lane.BOUNCE
        case _:
            return Lane.LOADING


def describe_call(call: Call) -> str:
    """As a part of a sentence."""
    match call:
        case RunCall(request):
            return f"the window at sample {request.position} with model {request.model}"
        case BatchCall(requests):
            return f"{len(requests)} live windows with model {requests[0].model}"
        case WalkCall(request):
            return f"steps {request.first} to {request.stop} at sample {request.position} with model {request.model}"
        case LoadCall(model):
            return f"loading model {model}"
        case UnloadCall(model):
            return f"unloading model {model}"


@dataclass(frozen=True, slots=True)
class Failure:
    """A StemlineError on its way to the other process."""

    reason: str
    message: str
    metadata: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, error: StemlineError) -> "Failure":
        return cls(error.reason, str(error), error.metadata)

    def to_error(self) -> StemlineError:
        """An error of the class that has this reason, where this process knows one; else a plain one with it."""
        known = (kind for kind in _subclasses(StemlineError) if kind.reason == self.reason)
        kind: type[StemlineError] = next(known, None) or type("RemoteError", (StemlineError,), {"reason": self.reason})
        error = kind.__new__(kind)
        # Classes may have constructors of their own; what they would have made is already here.
        StemlineError.__init__(error, self.message, **self.metadata)
        return error


@dataclass(frozen=True, slots=True)
class BatchReply:
    """A BatchResult on its way to the other process."""

    outcomes: tuple[WindowResult | Failure, ...]
    live_batch: int


@dataclass(frozen=True, slots=True)
class Request:
    call_id: int
    call: Call


@dataclass(frozen=True, slots=True)
class Reply:
    call_id: int
    result: WindowResult | BatchReply | WalkResult | LoadedModel | Failure | None


@dataclass(frozen=True, slots=True)
class Ready:
    """The first message of an engine."""

    device: DeviceInfo
    warmed: LoadedModel | None


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of the engine's log: the API process writes the only log there is."""

    logger: str
    level: int
    text: str


FromEngine = Ready | Reply | Failure | LogLine


def _subclasses(kind: type[StemlineError]) -> Iterator[type[StemlineError]]:
    for sub in kind.__subclasses__():
        yield sub
        yield from _subclasses(sub)
