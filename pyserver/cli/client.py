"""How commands get a server: the one they are told, the one that runs, or one they start and stop themselves."""

import asyncio
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, TypeVar

import grpc
import tyro
from grpc_health.v1 import health_pb2, health_pb2_grpc
from stems.v1 import models_pb2

import pyserver
from pyserver import paths
from pyserver.cli.console import say
from pyserver.cli.exits import Exit
from pyserver.errors import StemlineError
from pyserver.models import catalogue
from pyserver.models.catalogue import BrokenCard, ModelNotDownloaded, ModelNotFound
from pyserver.service.channel import (
    Connection,
    ServerUnreachable,
    Target,
    call_error,
    connect,
    find_server,
    remote_error,
    remote_errors,
)

Result = TypeVar("Result")

START_LIMIT_S = 180.0
STOP_LIMIT_S = 20.0
_POLL_S = 0.05
_RETRY_S = 0.3
_LOG_LINES = 12
_SHUTTING_DOWN = "SHUTTING_DOWN"


class UsageError(StemlineError):
    reason = "USAGE"


class ServerLost(StemlineError):
    """The server is gone in the middle of the work. `told`: it said that it goes."""

    reason = "SERVER_LOST"

    def __init__(self, doing: str, *, told: bool) -> None:
        super().__init__(
            f"the server went away while {doing}; run the same command again: it goes on where this one stopped"
        )
        self.told = told


class ServerDidNotStart(StemlineError):
    reason = "SERVER_DID_NOT_START"


@dataclass(frozen=True, kw_only=True)
class ServerArgs:
    """Which server does the work. Without any of these: the running one, or one that is started for this command."""

    server: str | None = None
    """Address of a running server (unix:/path or host:port)."""
    token_file: Path | None = None
    """The token of that server; default: this user's own."""
    tls: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """The server speaks TLS."""
    tls_ca: Path | None = None
    """Certificate (PEM) that vouches for the server, if no public authority does."""
    gpu: int | None = None
    """Index of the GPU for a server that is started for this command."""
    cpu: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Use no GPU in a server that is started for this command."""


@asynccontextmanager
async def server_for(args: ServerArgs, model: str | None) -> AsyncIterator[Connection]:
    """A verified connection to a server that is ready; `model` is what a server of our own loads.

    Raises what `connect` raises, ServerDidNotStart or the reason for which the started server gave up.
    """
    if args.server is not None:
        async with await connect(_given_target(args)) as connection:
            await _until_ready(connection, None)
            yield connection
        return
    until = time.monotonic() + START_LIMIT_S
    while time.monotonic() < until:
        running = await _running()
        if running is not None:
            async with running:
                await _until_ready(running, None)
                yield running
            return
        catalogue.find(model or catalogue.DEFAULT_MODEL)  # a wrong name is told at once, not after a start
        async with _started(_device(args), model or catalogue.DEFAULT_MODEL) as connection:
            if connection is not None:
                yield connection
                return
        await asyncio.sleep(_RETRY_S)
    raise ServerDidNotStart(f"another server neither got ready nor made room within {START_LIMIT_S:.0f} s")


@asynccontextmanager
async def own_server(device: Sequence[str], model: str | None, home: Path) -> AsyncIterator[Connection]:
    """A server that is ours alone and keeps all it has in `home`; `device` is what `serve` is told. Raises as above."""
    catalogue.find(model or catalogue.DEFAULT_MODEL)
    async with _started(device, model or catalogue.DEFAULT_MODEL, home) as connection:
        if connection is None:
            raise ServerDidNotStart(f"another server runs in {home}")
        yield connection


async def with_server(args: ServerArgs, model: str | None, work: Callable[[Connection], Awaitable[Result]]) -> Result:
    """What `work` gives; where the server is shut down in the middle of it, it is begun again with another one.

    Raises as `server_for`, and ServerLost for a server that died or that the user has named.
    """
    while True:
        try:
            async with server_for(args, model) as connection:
                return await work(connection)
        except ServerLost as error:
            # Other people's servers may be shut down in mid-work; a dead one, which leaves its record, is for the user
            # to hear of.
            shut_down = error.told or paths.read_server_record() is None
            if not shut_down or args.server is not None:
                raise
            say("the server was shut down; going on with another one")
            await asyncio.sleep(_RETRY_S)


@contextlib.contextmanager
def losing_server(doing: str) -> Iterator[None]:
    """Inside, calls that fail because the server is gone raise ServerLost, others what the server meant."""
    try:
        with remote_errors():
            yield
    except StemlineError as error:
        if error.reason not in (ServerUnreachable.reason, _SHUTTING_DOWN):
            raise
        raise ServerLost(doing, told=error.reason == _SHUTTING_DOWN) from error


async def listed_models(connection: Connection) -> models_pb2.ListModelsResponse:
    """Every model that the server knows of."""
    with losing_server("it was asked for its models"):
        answer: models_pb2.ListModelsResponse = await connection.models.ListModels(models_pb2.ListModelsRequest())
    return answer


async def described_model(connection: Connection, name: str | None) -> models_pb2.Model:
    """What the server says of a model (None: its default). Raises as `catalogue.find` does."""
    answer = await listed_models(connection)
    wanted = name or answer.default_model
    for model in answer.models:
        if model.name == wanted:
            if model.state == models_pb2.Model.STATE_NOT_DOWNLOADED:
                raise ModelNotDownloaded(wanted)
            if model.state == models_pb2.Model.STATE_BROKEN:
                raise BrokenCard(Path(wanted), model.problem)
            return model
    raise ModelNotFound(wanted, [model.name for model in answer.models])


def _given_target(args: ServerArgs) -> Target:
    assert args.server is not None
    token = paths.read_token(args.token_file or paths.token_path())
    certificate = args.tls_ca.read_bytes() if args.tls_ca else None
    return Target(address=args.server, token=token, tls=args.tls or certificate is not None, certificate=certificate)


async def _running() -> Connection | None:
    target = find_server()
    if target is None:
        return None
    try:
        return await connect(target)
    except ServerUnreachable:
        return None  # its record outlived it


@asynccontextmanager
async def _started(device: Sequence[str], model: str, home: Path | None = None) -> AsyncIterator[Connection | None]:
    """A server of our own, stopped in the end; None if somebody else's was faster or has not quite gone yet."""
    with tempfile.TemporaryFile() as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "pyserver", "serve", "--until-stdin-closes", "--model", model, *device),
            stdin=asyncio.subprocess.PIPE,  # closed by the system if we are killed
            stdout=log,
            stderr=log,
            env=_environment(home),
            start_new_session=True,  # Ctrl-C is for us: we cancel our job there, then stop it
        )
        try:
            connection = await _first_connection(process, log, home)
            if connection is None:
                yield None
                return
            async with connection:
                await _until_ready(connection, (process, log))
                yield connection
        finally:
            await asyncio.shield(_stop(process))


def _device(args: ServerArgs) -> list[str]:
    return ["--cpu"] if args.cpu else [] if args.gpu is None else ["--gpu", str(args.gpu)]


def _environment(home: Path | None) -> dict[str, str]:
    """Ours, and the package that runs now is the one that the server runs, wherever we were called from.

    A server with a home of its own has the same models as one without.
    """
    root = str(Path(pyserver.__file__).resolve().parent.parent)
    ours = {"PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}
    if home is not None:
        ours["STEMLINE_MODELS"] = os.pathsep.join(str(path.absolute()) for path in catalogue.search_path())
        ours["STEMLINE_HOME"] = str(home)
    return {**os.environ, **ours}


async def _first_connection(
    process: asyncio.subprocess.Process, log: IO[bytes], home: Path | None
) -> Connection | None:
    until = time.monotonic() + START_LIMIT_S
    while time.monotonic() < until:
        if process.returncode == Exit.SERVER_ALREADY_RUNNING:
            return None
        if process.returncode is not None:
            raise _failure(process.returncode, log)
        record = paths.read_server_record(home)
        if record is not None and record.pid == process.pid:
            return await connect(Target(address=record.address, token=paths.read_token(Path(record.token_file))))
        await asyncio.sleep(_POLL_S)
    raise ServerDidNotStart(f"the server was not ready after {START_LIMIT_S:.0f} s:\n{_tail(log)}")


async def _until_ready(connection: Connection, own: tuple[asyncio.subprocess.Process, IO[bytes]] | None) -> None:
    """Until health says SERVING: the engine is up and its model is loaded."""
    until, told = time.monotonic() + START_LIMIT_S, False
    stub = health_pb2_grpc.HealthStub(connection.channel)
    while time.monotonic() < until:
        try:
            answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=5.0)
        except grpc.aio.AioRpcError as error:
            if own is None:
                raise call_error(error, connection.target.address) from error
            await asyncio.sleep(_POLL_S)  # it is going down; its exit code will tell why
        else:
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                return
        if own is not None and own[0].returncode is not None:
            raise _failure(own[0].returncode, own[1])
        if own is None and not told:
            say("waiting for the server to get ready")
            told = True
        await asyncio.sleep(_POLL_S)
    raise ServerDidNotStart(f"the server at {connection.target.address} was not ready after {START_LIMIT_S:.0f} s")


def _failure(code: int | None, log: IO[bytes]) -> StemlineError:
    """Why the server that we started is gone: its exit code is as good as a reason."""
    text = f"the server did not start:\n{_tail(log)}"
    known = [member.name for member in Exit if member == code and code not in (Exit.OK, Exit.UNEXPECTED)]
    return remote_error(known[0], text, {}) if known else ServerDidNotStart(f"{text}\n(exit code {code})")


def _tail(log: IO[bytes]) -> str:
    log.seek(0)
    lines = log.read().decode(errors="replace").splitlines()
    return "\n".join(f"  {line}" for line in lines[-_LOG_LINES:]) or "  (it said nothing)"


async def _stop(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        if process.returncode is None:
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_LIMIT_S)
        except TimeoutError:
            process.kill()
            await process.wait()
