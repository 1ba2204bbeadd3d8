"""What Prometheus may know: on loopback, and only if a port is given."""

import math
import time
from collections import Counter as Tally
from collections.abc import Iterable, Iterator
from threading import Thread
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Counter, start_http_server
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pyserver.engine.messages import WalkRequest, WalkResult, WindowRequest, WindowResult
from pyserver.engine.process import EngineProcess
from pyserver.separation.errors import DeadlineMissed
from pyserver.separation.jobs import JobState, JobStore
from pyserver.separation.scheduler import Scheduler
from pyserver.service.address import PortInUse
from pyserver.service.live import LiveService

PAGE = 500


class MeteredScheduler(Scheduler):
    """The scheduler, and how much went through it."""

    def __init__(self, engine: EngineProcess, registry: CollectorRegistry) -> None:
        super().__init__(engine)
        self._windows_total = Counter(
            "stemline_windows", "Windows separated, or runs of a walk's steps", ["kind"], registry=registry
        )
        self._compute_total = Counter(
            "stemline_compute_seconds", "Time the engine spent on windows", ["kind"], registry=registry
        )
        self._late_total = Counter("stemline_late_windows", "Live windows that came too late", registry=registry)
        for kind in ("live", "bounce", "generate"):  # present from the start, so that a rate over them is right
            self._windows_total.labels(kind)
            self._compute_total.labels(kind)

    async def submit(self, request: WindowRequest, *, owner: str, deadline: float = math.inf) -> WindowResult:
        try:
            result = await super().submit(request, owner=owner, deadline=deadline)
        except DeadlineMissed:
            self._late_total.inc()
            raise
        self._count("live" if math.isfinite(deadline) else "bounce", result.compute_s)
        if time.monotonic() > deadline:
            self._late_total.inc()
        return result

    async def submit_walk(self, request: WalkRequest, *, owner: str) -> WalkResult:
        result = await super().submit_walk(request, owner=owner)
        self._count("generate", result.compute_s)
        return result

    def _count(self, kind: str, compute_s: float) -> None:
        self._windows_total.labels(kind).inc()
        self._compute_total.labels(kind).inc(compute_s)


class StateCollector(Collector):
    """Figures that are read off when somebody asks for them. Called from the metrics server's thread."""

    def __init__(self, scheduler: Scheduler, engine: EngineProcess, store: JobStore, live: LiveService) -> None:
        self._scheduler = scheduler
        self._engine = engine
        self._store = store
        self._live = live

    def collect(self) -> Iterable[Metric]:
        waiting = GaugeMetricFamily("stemline_waiting_windows", "Windows in the queue", labels=["kind"])
        waiting.add_metric(["live"], self._scheduler.waiting_live)
        waiting.add_metric(["bounce"], self._scheduler.waiting_bounce)
        yield waiting
        yield GaugeMetricFamily("stemline_live_sessions", "Open live sessions", value=self._live.open_sessions)
        yield GaugeMetricFamily(
            "stemline_engine_restarts", "How often the engine process was replaced", value=self._engine.restarts
        )
        jobs = GaugeMetricFamily("stemline_jobs", "Bounce jobs on disk", labels=["state"])
        tally = Tally(self._states())
        for state in JobState:
            jobs.add_metric([state.value.lower()], tally[state])
        yield jobs

    def _states(self) -> Iterator[JobState]:
        after = ""
        while page := self._store.list_jobs(after=after, limit=PAGE):
            yield from (job.state for job in page)
            after = page[-1].job_id


def serve_metrics(port: int, registry: CollectorRegistry) -> tuple[WSGIServer, Thread]:
    """Answers on 127.0.0.1:`port`; raises PortInUse."""
    try:
        return start_http_server(port, addr="127.0.0.1", registry=registry)
    except OSError as error:
        raise PortInUse(f"cannot serve metrics on port {port}: {error.strerror or error}", port=port) from error
