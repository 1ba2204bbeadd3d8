"""The API process's handle on the engine process: starts it, feeds it, and starts it again when it dies."""

import asyncio
import itertools
import logging
import multiprocessing
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing.context import SpawnProcess
from pathlib import Path

from pyserver.engine.errors import EngineClosed, EngineCrashed
from pyserver.engine.messages import (
    BackendChoice,
    DeviceInfo,
    LoadedModel,
    WalkRequest,
    WalkResult,
    WindowRequest,
    WindowResult,
)
from pyserver.engine.pipe import LoopPipe, Pipe
from pyserver.engine.wire import (
    BatchCall,
    BatchReply,
    Call,
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
    describe_call,
    lane_of,
)

log = logging.getLogger(__name__)

Answer = WindowResult | BatchReply | WalkResult | LoadedModel | None

_MAX_DEATHS = 3
_CLOSE_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """`device` is "cpu", "cuda:N" or "auto" (a GPU if there is one); `threads` 0 means one for each physical core;
    `measurements` is the file that keeps what models cost here; what was chosen for them is kept beside it."""

    device: str = "auto"
    threads: int = 0
    warm_model: str | None = None
    measurements: Path | None = None
    backend: BackendChoice = BackendChoice.AUTO


@dataclass(slots=True)
class _Pending:
    """A call without an answer from the engine yet, and how many engines have died while they worked on it."""

    call: Call
    answer: "asyncio.Future[Answer]"
    deaths: int = 0

    @property
    def given_up(self) -> bool:
        """A batch is not tried twice: its windows are, one by one, so that one of them does not doom the others."""
        return self.deaths >= (1 if isinstance(self.call, BatchCall) else _MAX_DEATHS)


@dataclass(slots=True)
class _Child:
    """One engine process; `gone` is set when it has ended and everything it said has been heard."""

    process: SpawnProcess
    ready: "asyncio.Future[Ready]"
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    pipe: LoopPipe | None = None

    def send(self, message: Request | None) -> None:
        """None ends it."""
        assert self.pipe is not None
        self.pipe.send(message)


class EngineProcess:
    """Owns one engine process at a time. Every method runs on the event loop that called `start`."""

    def __init__(self, config: EngineConfig, *, on_restart: Callable[[], None] | None = None) -> None:
        """`on_restart` is called on the event loop each time a dead engine has been replaced."""
        self._config, self._on_restart = config, on_restart
        self._child: _Child | None = None
        self._restarting: asyncio.Task[None] | None = None
        self._device: DeviceInfo | None = None
        self._loaded: dict[str, LoadedModel] = {}
        self._pending: dict[int, _Pending] = {}  # in the order in which they were sent
        self._ids = itertools.count()
        self._restarts = 0
        self._closed = False
        self._watching: set[asyncio.Task[None]] = set()  # over the ends of engines

    @property
    def device(self) -> DeviceInfo:
        """The device as the engine found it (memory figures are those of its start)."""
        assert self._device is not None, "the engine has not been started"
        return self._device

    @property
    def pid(self) -> int:
        """Of the engine process that is running now; 0 between two."""
        return (self._child.process.pid or 0) if self._child else 0

    @property
    def restarts(self) -> int:
        return self._restarts

    def on_restart(self, callback: Callable[[], None] | None) -> None:
        """Who is to be told each time a dead engine has been replaced."""
        self._on_restart = callback

    async def start(self) -> None:
        """Return when the engine is up and has warmed its model. Raises GpuNotAvailable."""
        await self._start_child()

    async def run(self, request: WindowRequest, *, urgent: bool = False) -> WindowResult:
        """Separate a window; if the engine dies meanwhile, the window is sent again to the next one.

        Urgent windows (live) overtake others. Cancelling gives up the result, not the computation.
        Raises EngineCrashed after three deaths over the same window, EngineClosed, and what the pipeline raises.
        """
        result = await self._call(RunCall(request, urgent))
        assert isinstance(result, WindowResult)
        return result

    async def run_together(self, requests: Sequence[WindowRequest]) -> list[WindowResult | Exception]:
        """Live windows of one shape as one batch: stems may differ from those of `run` by float rounding, so this is
        not for what is promised to be reproducible. A window that fails, or kills the engine, fails alone."""
        try:
            reply = await self._call(BatchCall(tuple(requests)))
        except EngineCrashed:
            self._batch_no_more_than(len(requests) // 2, requests[0].model)
            return await asyncio.gather(*(self._run_alone(request) for request in requests))
        assert isinstance(reply, BatchReply)
        self._batch_no_more_than(reply.live_batch, requests[0].model)
        return [found.to_error() if isinstance(found, Failure) else found for found in reply.outcomes]

    async def _run_alone(self, request: WindowRequest) -> WindowResult | Exception:
        try:
            return await self.run(request, urgent=True)
        except Exception as error:
            return error

    def _batch_no_more_than(self, most: int, model: str) -> None:
        known = self._loaded.get(model)
        if known and most < known.live_batch:
            self._loaded[model] = replace(known, live_batch=most)

    async def walk(self, request: WalkRequest) -> WalkResult:
        """Some steps of a walk, in the lane of bounces; as `run` otherwise."""
        result = await self._call(WalkCall(request))
        assert isinstance(result, WalkResult)
        return result

    async def load(self, model: str, *, measure: bool = True) -> LoadedModel:
        """Verify, load and warm a model; with `measure` also time it (once, a few seconds)."""
        known = self._loaded.get(model)
        needs_measuring = measure and not (known and known.measured)
        result = await self._call(LoadCall(model, needs_measuring))
        assert isinstance(result, LoadedModel)
        if known and known.measured and _same(known, result) and not result.measured:
            result = known  # a restarted engine has forgotten what its predecessor measured
        elif measure and not result.measured:
            result = await self._measure_changed(model)
        self._loaded[model] = result
        return result

    async def _measure_changed(self, model: str) -> LoadedModel:
        """The weights have changed since they were measured."""
        result = await self._call(LoadCall(model, True))
        assert isinstance(result, LoadedModel)
        return result

    async def unload(self, model: str) -> None:
        await self._call(UnloadCall(model))
        self._loaded.pop(model, None)

    def loaded(self, model: str) -> LoadedModel | None:
        """What is known of a model that this engine has loaded, without asking it."""
        return self._loaded.get(model)

    async def close(self) -> None:
        """End the engine process; windows still waiting raise EngineClosed."""
        self._closed = True
        if self._restarting:
            self._restarting.cancel()
            await asyncio.gather(self._restarting, return_exceptions=True)
        self._fail_all(EngineClosed("the server is shutting down"))
        child, self._child = self._child, None
        if child:
            await _end(child)

    async def _call(self, call: Call) -> Answer:
        if self._closed:
            raise EngineClosed("the server is shutting down")
        call_id, pending = next(self._ids), _Pending(call, asyncio.get_running_loop().create_future())
        self._pending[call_id] = pending
        if self._child and self._child.ready.done():
            self._child.send(Request(call_id, call))
        elif self._child is None and self._restarting is None:
            self._restarting = asyncio.create_task(self._restart())
        return await pending.answer

    async def _start_child(self) -> None:
        """Spawn an engine, wait until it is ready and give it everything that waits. Raises what keeps it from that."""
        # Spawned, never forked: gRPC's threads would not survive in a forked child.
        context = multiprocessing.get_context("spawn")
        ours, theirs = Pipe.pair()
        arguments = (theirs, self._config)
        process = context.Process(target=_child_main, args=arguments, name="stemline-engine", daemon=True)
        child = _Child(process, asyncio.get_running_loop().create_future())
        child.pipe = await ours.on_loop(partial(self._receive, child), partial(self._watch_end, child))
        process.start()
        theirs.close()
        self._child = child
        try:
            ready = await child.ready
        except BaseException:
            self._child = None
            await _end(child)
            raise
        self._device = ready.device
        if ready.warmed:
            self._loaded.setdefault(ready.warmed.name, ready.warmed)
        self._pending = {key: pending for key, pending in self._pending.items() if not pending.answer.done()}
        for call_id, pending in self._pending.items():
            child.send(Request(call_id, pending.call))

    async def _restart(self) -> None:
        """Replace a dead engine; if that cannot be done, everything that waits is told why."""
        try:
            for attempt in range(_MAX_DEATHS):
                try:
                    await self._start_child()
                    break
                except EngineCrashed:
                    if attempt == _MAX_DEATHS - 1:
                        raise
                    await asyncio.sleep(0.2 * 2**attempt)
        except Exception as error:
            log.error("the engine cannot be restarted: %s", error)
            self._fail_all(error)
            return
        finally:
            self._restarting = None
        self._restarts += 1
        if self._on_restart:
            self._on_restart()

    def _receive(self, child: _Child, message: FromEngine) -> None:
        match message:
            case Ready():
                if not child.ready.done():
                    child.ready.set_result(message)
            case Failure():
                if not child.ready.done():
                    child.ready.set_exception(message.to_error())
            case Reply(call_id, result):
                if pending := self._pending.pop(call_id, None):
                    _settle(pending, result)
            case LogLine(logger, level, text):
                logging.getLogger(logger).log(level, text)

    def _watch_end(self, child: _Child) -> None:
        """It says no more."""
        watching = asyncio.create_task(self._ended(child))
        self._watching.add(watching)
        watching.add_done_callback(self._watching.discard)

    async def _ended(self, child: _Child) -> None:
        await asyncio.to_thread(child.process.join)
        child.gone.set()
        self._died(child)

    def _died(self, child: _Child) -> None:
        """Unless it was asked to, the engine has died. Its windows are pure, so another engine can repeat them."""
        code = child.process.exitcode
        if not child.ready.done():
            child.ready.set_exception(EngineCrashed(f"the engine ended while it started (exit code {code})"))
            return
        if self._closed or child is not self._child:
            return
        log.warning("the engine (pid %s) ended with exit code %s; starting another", child.process.pid, code)
        for pending in self._under_way():
            pending.deaths += 1
            if pending.given_up and not pending.answer.done():
                pending.answer.set_exception(
                    EngineCrashed(
                        f"the engine ended {pending.deaths} times while it worked on {describe_call(pending.call)} "
                        f"(last exit code {code}); it may need more memory than there is",
                        exit_code=code,
                    )
                )
        self._child = None
        self._restarting = asyncio.create_task(self._restart())

    def _under_way(self) -> list[_Pending]:
        """What the engine was at: it takes the calls of each lane in turn, so the first one without an answer."""
        preempts, oldest = self.device.live_preempts, dict[Lane, _Pending]()
        for pending in self._pending.values():
            oldest.setdefault(lane_of(pending.call, preempts=preempts), pending)
        return list(oldest.values())

    def _fail_all(self, error: Exception) -> None:
        for pending in self._pending.values():
            if not pending.answer.done():
                pending.answer.set_exception(error)


def _same(known: LoadedModel, now: LoadedModel) -> bool:
    """The weights and what computes them."""
    return (known.weights_sha256, known.backend) == (now.weights_sha256, now.backend)


def _child_main(pipe: Pipe, config: EngineConfig) -> None:
    from pyserver.engine import worker

    worker.main(pipe, config)


async def _end(child: _Child) -> None:
    """Ask it to end; if it does not listen, a signal sees to it."""
    child.send(None)
    try:
        async with asyncio.timeout(_CLOSE_TIMEOUT_S):
            await child.gone.wait()
    except TimeoutError:
        child.process.kill()
        await child.gone.wait()


def _settle(pending: _Pending, result: Answer | Failure) -> None:
    if pending.answer.done():
        return
    if isinstance(result, Failure):
        pending.answer.set_exception(result.to_error())
    else:
        pending.answer.set_result(result)
