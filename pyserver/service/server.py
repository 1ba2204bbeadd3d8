"""The API process put together: services, health, reflection, engine; started, drained and stopped in order."""

import asyncio
import logging
import os
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import CollectorRegistry
from stems.v1 import (
    bounce_pb2,
    bounce_pb2_grpc,
    generate_pb2,
    generate_pb2_grpc,
    live_pb2,
    live_pb2_grpc,
    models_pb2,
    models_pb2_grpc,
    server_pb2,
    server_pb2_grpc,
)

import pyserver
from pyserver import paths
from pyserver.engine.messages import BackendChoice
from pyserver.engine.process import EngineConfig, EngineProcess
from pyserver.errors import StemlineError
from pyserver.models import catalogue
from pyserver.models.card import ModelCard
from pyserver.separation.bounce import BounceRunner
from pyserver.separation.jobs import JobStore
from pyserver.service import address
from pyserver.service.address import Address, PortInUse, TcpAddress, UnixAddress
from pyserver.service.auth import token_required
from pyserver.service.bounce import BounceService
from pyserver.service.channel import MAX_MESSAGE_BYTES, MIN_PING_S, PING_S, PING_TIMEOUT_S
from pyserver.service.core import Core, when_warm
from pyserver.service.errors import Within, reported
from pyserver.service.generate import GenerateService
from pyserver.service.info import ServerService
from pyserver.service.live import DRAIN_GRACE_S, LiveService
from pyserver.service.metrics import MeteredScheduler, StateCollector, serve_metrics
from pyserver.service.models import ModelService

log = logging.getLogger(__name__)

SERVICES = tuple(
    module.DESCRIPTOR.services_by_name[name].full_name
    for module, name in (
        (live_pb2, "LiveService"),
        (bounce_pb2, "BounceService"),
        (generate_pb2, "GenerateService"),
        (models_pb2, "ModelService"),
        (server_pb2, "ServerService"),
    )
)
OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.so_reuseport", 0),  # or two servers could share a port, each with half of the calls
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", PING_S * 1000),
    ("grpc.keepalive_timeout_ms", PING_TIMEOUT_S * 1000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", MIN_PING_S * 1000),
    ("grpc.http2.max_pings_without_data", 0),
    # A fixed flow-control window: left to itself it grows to megabytes, which we would keep for each client that sends
    # faster than it is served. 512 KiB still carries 25 MB/s over a round trip of 20 ms.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 512 * 1024),
)


EXPIRE_EVERY_S = 3600


class TlsUnusable(StemlineError):
    """The certificate or its key cannot be read, or they do not belong together."""

    reason = "TLS_FILES"


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    certificate: Path
    key: Path

    def credentials(self) -> grpc.ServerCredentials:
        try:
            pair = (self.key.read_bytes(), self.certificate.read_bytes())
            return grpc.ssl_server_credentials([pair])
        except (OSError, ValueError) as error:
            raise TlsUnusable(f"cannot use the TLS certificate {self.certificate}: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """`listen` None: the default address alone; another one with TLS is served beside the default one."""

    listen: Address | None
    tls: TlsFiles | None
    token: str
    token_file: Path
    device: str  # as EngineConfig takes it
    threads: int
    backend: BackendChoice
    model: str
    metrics_port: int | None
    max_live_sessions: int
    state_dir: Path


class Server:
    """One server: `start`, then `stop`. Every method runs on one event loop."""

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._registry = CollectorRegistry()
        self._engine = EngineProcess(
            EngineConfig(
                device=config.device,
                threads=config.threads,
                warm_model=config.model,
                measurements=config.state_dir / "measurements.json",
                backend=config.backend,
            ),
            on_restart=self._engine_restarted,
        )
        store = JobStore(config.state_dir / "jobs")
        scheduler = MeteredScheduler(self._engine, self._registry)
        self._runner = BounceRunner(store, scheduler, _find_card)
        self._core = Core(
            engine=self._engine,
            scheduler=scheduler,
            runner=self._runner,
            token=config.token,
            default_model=config.model,
            max_live_sessions=config.max_live_sessions,
            start_time_s=time.time(),
        )
        self._live = LiveService(self._core)
        self._grpc: grpc.aio.Server | None = None
        self._health = health.aio.HealthServicer()
        self._registry.register(StateCollector(scheduler, self._engine, store, self._live))
        self._cleanup = ExitStack()
        self._housekeeping: asyncio.Task[None] | None = None
        self._notices: set[asyncio.Task[None]] = set()

    async def start(self) -> str:
        """Listens, warms the engine, goes on with unfinished jobs; returns the address that clients of this user use.

        Raises PortInUse, BadAddress, TlsRequired, GpuNotAvailable, and what the catalogue raises for the model.
        """
        await self._core.card(self._config.model)  # a wrong name is reported before anything is started
        server = self._grpc = self._assemble()
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        addresses = self._bind(server)
        if self._config.metrics_port is not None:
            httpd, _ = serve_metrics(self._config.metrics_port, self._registry)
            self._cleanup.callback(httpd.shutdown)
        await server.start()
        local = addresses[-1]
        paths.write_server_record(
            paths.ServerRecord(
                address=local, pid=os.getpid(), version=pyserver.__version__, token_file=str(self._config.token_file)
            )
        )
        self._cleanup.callback(paths.remove_server_record, os.getpid())
        await self._engine.start()
        self._core.warm.set()
        resumed = await self._runner.resume_all()
        if resumed:
            log.info("going on with %d unfinished jobs", len(resumed), extra={"jobs": resumed})
        self._housekeeping = asyncio.create_task(self._expire_jobs())
        await self._set_health(health_pb2.HealthCheckResponse.SERVING)
        return addresses[0]

    @property
    def device(self) -> str:
        return f"{self._engine.device.name} ({self._engine.device.backend})"

    async def stop(self) -> None:
        """Drains: no new calls, live sessions are told, jobs stop at a window's border, then everything is closed."""
        paths.remove_server_record(os.getpid())  # first: who loses this server now can tell a stop from a death
        self._core.draining.set()
        await self._health.enter_graceful_shutdown()
        told = self._live.notify(live_pb2.LiveNotice.KIND_DRAINING, "the server is shutting down")
        # At the same time: a client that does not read would keep us from telling it until its call is ended.
        await asyncio.gather(told, self._end_calls(), self._runner.close())
        await self.abandon()

    async def _end_calls(self) -> None:
        if self._grpc is not None:
            await self._grpc.stop(grace=DRAIN_GRACE_S + 1.0)

    async def abandon(self) -> None:
        """Gives back what a failed start may have taken, too."""
        self._cleanup.close()
        if self._housekeeping is not None:
            self._housekeeping.cancel()
        if self._grpc is not None:
            await self._grpc.stop(grace=None)
        await self._engine.close()

    def _assemble(self) -> grpc.aio.Server:
        server = grpc.aio.server(
            interceptors=(Within(reported), token_required(self._config.token), when_warm(self._core)), options=OPTIONS
        )
        live_pb2_grpc.add_LiveServiceServicer_to_server(self._live, server)
        bounce_pb2_grpc.add_BounceServiceServicer_to_server(BounceService(self._core), server)
        generate_pb2_grpc.add_GenerateServiceServicer_to_server(GenerateService(self._core), server)
        models_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(self._core, self._live), server)
        server_pb2_grpc.add_ServerServiceServicer_to_server(ServerService(self._core, self._live), server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflection.enable_server_reflection((*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
        return server

    def _bind(self, server: grpc.aio.Server) -> list[str]:
        """The addresses that are served now; the last one is for this machine."""
        wanted = [self._config.listen or address.default_address()]
        address.require_safe(wanted[0], tls=self._config.tls is not None)
        if self._config.tls is not None:  # so that programs on this machine need no certificate
            wanted.append(address.default_address())
        return [self._bind_one(server, where, tls=self._config.tls if where is wanted[0] else None) for where in wanted]

    def _bind_one(self, server: grpc.aio.Server, where: Address, tls: TlsFiles | None) -> str:
        address.claim(where)
        try:
            if tls is not None:
                port = server.add_secure_port(str(where), tls.credentials())
            else:
                port = server.add_insecure_port(str(where))
        except RuntimeError as error:  # somebody took it since we looked
            if tls is not None:
                raise TlsUnusable(
                    f"cannot listen on {where}: the certificate and the key do not fit, or the port is in use"
                ) from error
            raise PortInUse(f"cannot listen on {where}: it is in use", address=where) from error
        if isinstance(where, UnixAddress):
            self._cleanup.callback(where.path.unlink, missing_ok=True)
            if sys.platform != "win32":
                where.path.chmod(0o600)
            return str(where)
        return str(TcpAddress(where.host, port))

    async def _expire_jobs(self) -> None:
        while True:
            await asyncio.sleep(EXPIRE_EVERY_S)
            if expired := await self._runner.expire():
                log.info("deleted %d jobs whose time was over", len(expired), extra={"jobs": expired})

    async def _set_health(self, status: int) -> None:
        for name in ("", *SERVICES):
            await self._health.set(name, status)

    def _engine_restarted(self) -> None:
        log.warning("the engine process was replaced", extra={"restarts": self._engine.restarts})
        message = "the engine was restarted; stems may come late"
        notice = asyncio.ensure_future(self._live.notify(live_pb2.LiveNotice.KIND_ENGINE_RESTARTED, message))
        self._notices.add(notice)
        notice.add_done_callback(self._notices.discard)


def _find_card(model: str) -> ModelCard:
    return catalogue.find(model).card
