"""The engine process: takes windows from its pipe, one lane for live and one for everything else.

Where the device can preempt (a CPU under Linux), the slow lane's thread has a low priority and its own team of
compute threads, so a live window does not wait for the bounce window under way. Else both lanes are one thread.
"""

import contextlib
import logging
import os
import queue
import signal
import threading
import traceback
import uuid
from multiprocessing import parent_process
from multiprocessing.connection import wait

from pyserver import allocator, collector
from pyserver.engine.backend import Backend, DeviceLost
from pyserver.engine.errors import EngineFailed
from pyserver.engine.messages import BatchResult, LoadedModel, WalkResult, WindowResult
from pyserver.engine.pipe import Pipe
from pyserver.engine.process import EngineConfig
from pyserver.engine.wire import (
    BatchCall,
    BatchReply,
    Failure,
    FromEngine,
    Lane,
    LoadCall,
    LogLine,
    Ready,
    Reply,
    Request,
    RunCall,
    UnloadCall,
    WalkCall,
    lane_of,
)
from pyserver.errors import StemlineError

log = logging.getLogger(__name__)

_LIVE_PRIORITY = -10
_BOUNCE_PRIORITY = 10  # a tenth of the time that live has when both want to compute; the lowest, 19, would starve
_PRIORITIES: dict[Lane, int | None] = {
    Lane.LIVE: _LIVE_PRIORITY,
    Lane.BOUNCE: _BOUNCE_PRIORITY,
    Lane.LOADING: _LIVE_PRIORITY,
}
_IDLE_S = 5.0  # after which the memory of windows is given back


def main(pipe: Pipe, config: EngineConfig) -> None:
    """What `EngineProcess` spawns. Ends when it is told to, when the pipe closes, and when its parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then closes the pipe
    allocator.share_one_heap()
    allocator.keep_freed_memory()
    threading.Thread(target=_die_with_parent, name="parent watch", daemon=True).start()
    outbox = _Outbox(pipe)
    logging.basicConfig(handlers=[_LogToParent(outbox)], level=logging.INFO)
    try:
        backend = make_backend(config)
        collector.pass_over_what_is_imported()
        warmed = _warm(backend, config.warm_model)
    except Exception as error:
        outbox.send(describe(error))
        return
    outbox.send(Ready(backend.device, warmed))
    _serve(pipe, outbox, backend)


def make_backend(config: EngineConfig) -> Backend:
    """Raises GpuNotAvailable, and where ONNX Runtime is insisted on OnnxRuntimeMissing or ProviderNotActive."""
    from pyserver.engine.torch_backend import TorchBackend

    return TorchBackend(config.device, config.threads, config.measurements, config.backend)


def _warm(backend: Backend, model: str | None) -> LoadedModel | None:
    if model is None:
        return None
    try:
        return backend.load(model, measure=False)
    except StemlineError as error:
        # The server can still serve other models; whoever asks for this one is told the same.
        log.warning("cannot warm model %s: %s", model, error)
        return None


class _Outbox:
    """Replies from two threads onto one pipe."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe, self._lock = pipe, threading.Lock()

    def send(self, message: FromEngine) -> None:
        with self._lock, contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._pipe.send(message)


class _LogToParent(logging.Handler):
    def __init__(self, outbox: _Outbox) -> None:
        super().__init__()
        self._outbox = outbox

    def emit(self, record: logging.LogRecord) -> None:
        self._outbox.send(LogLine(record.name, record.levelno, record.getMessage()))


def _serve(pipe: Pipe, outbox: _Outbox, backend: Backend) -> None:
    preempts = backend.device.live_preempts
    lanes = _start_lanes(outbox, backend, preempts=preempts)
    while True:
        try:
            request: Request | None = pipe.recv()
        except (EOFError, OSError):
            request = None
        if request is None:
            # Not sys.exit: it would wait for the window under way, whose result nobody wants.
            os._exit(0)
        lanes[lane_of(request.call, preempts=preempts)].put(request)


def _start_lanes(outbox: _Outbox, backend: Backend, *, preempts: bool) -> "dict[Lane, queue.SimpleQueue[Request]]":
    priorities = _PRIORITIES if preempts else {Lane.ONLY: None}
    lanes: dict[Lane, queue.SimpleQueue[Request]] = {lane: queue.SimpleQueue() for lane in priorities}
    for lane, requests in lanes.items():
        arguments = (priorities[lane], requests, outbox, backend)
        threading.Thread(target=_lane, args=arguments, name=lane.value, daemon=True).start()
    return lanes


def _lane(priority: int | None, requests: "queue.SimpleQueue[Request]", outbox: _Outbox, backend: Backend) -> None:
    if priority is not None:
        # Linux keeps priorities by thread, and compute threads that torch starts from this one inherit its own.
        with contextlib.suppress(PermissionError):  # only some users may raise one; lowering is always allowed
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), priority)
    while True:
        request = _next(requests)
        outbox.send(Reply(request.call_id, _answer(backend, request)))


def _next(requests: "queue.SimpleQueue[Request]") -> Request:
    try:
        return requests.get(timeout=_IDLE_S)
    except queue.Empty:
        allocator.give_back_memory()
        return requests.get()


def _answer(
    backend: Backend, request: Request
) -> WindowResult | BatchReply | WalkResult | LoadedModel | Failure | None:
    try:
        match request.call:
            case RunCall(window):
                return backend.separate([window])[0]
            case BatchCall(windows):
                return _described(backend.separate_together(windows))
            case WalkCall(walk):
                return backend.walk(walk)
            case LoadCall(model, measure):
                return backend.load(model, measure=measure)
            case UnloadCall(model):
                backend.unload(model)
                return None
    except DeviceLost as error:
        log.error("the device is lost, the engine ends itself: %s", error)
        os._exit(1)
    except Exception as error:
        return describe(error)


def _described(result: BatchResult) -> BatchReply:
    outcomes = (describe(found) if isinstance(found, Exception) else found for found in result.outcomes)
    return BatchReply(tuple(outcomes), result.live_batch)


def describe(error: Exception) -> Failure:
    """An error for the other process. What nobody foresaw goes to the log, under an id that the user is told."""
    if isinstance(error, StemlineError):
        return Failure.of(error)
    error_id = uuid.uuid4().hex[:12]
    log.error("error %s\n%s", error_id, "".join(traceback.format_exception(error)))
    return Failure.of(EngineFailed(f"the engine failed unexpectedly (error {error_id})", error_id=error_id))


def _die_with_parent() -> None:
    """End with the API process however it ends, also in the middle of a window and without a closed pipe."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
