"""How a client reaches the server: where it is, is it really ours, with which options. Needs no torch.

    async with await connect() as server:
        job = await server.bounce.CreateJob(...)

`connect` checks the server's proof before it sends the token. Errors of calls are turned back into `StemlineError`s
by `call_error`, or by `with remote_errors(): ...`.
"""

import hashlib
import hmac
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
from google.rpc import error_details_pb2, status_pb2
from stems.v1 import bounce_pb2_grpc, generate_pb2_grpc, live_pb2_grpc, models_pb2_grpc, server_pb2, server_pb2_grpc

import pyserver
from pyserver import paths
from pyserver.errors import StemlineError

ERROR_DOMAIN = "stemline"
MAX_MESSAGE_BYTES = 4 * 1024 * 1024  # gRPC's default, on both sides
CHUNK_BYTES = 1024 * 1024
# A client may ping every PING_S; a server that allowed less would close the channel ("too many pings").
PING_S, PING_TIMEOUT_S, MIN_PING_S = 10, 5, 5

CLIENT_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.keepalive_time_ms", PING_S * 1000),
    ("grpc.keepalive_timeout_ms", PING_TIMEOUT_S * 1000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.enable_http_proxy", 0),  # never a stranger between a DAW and its own machine
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
)


class ServerUnreachable(StemlineError):
    reason = "SERVER_UNREACHABLE"


class UntrustedServer(StemlineError):
    """Something answers at the address but does not know the token: it shall not have ours, nor any audio."""

    reason = "UNTRUSTED_SERVER"


class RemoteError(StemlineError):
    """An error the server reported; `reason` and `metadata` are the server's."""


def remote_error(reason: str, message: str, metadata: dict[str, str]) -> RemoteError:
    named: type[RemoteError] = type("RemoteError", (RemoteError,), {"reason": reason, "__doc__": RemoteError.__doc__})
    return named(message, **metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a server is and how to speak to it. `certificate` (PEM): an authority for TLS that is not a public one."""

    address: str
    token: str
    tls: bool = False
    certificate: bytes | None = None


def proof(token: str, challenge: bytes) -> bytes:
    """What only a holder of the token can answer to `challenge`."""
    return hmac.new(token.encode("ascii"), challenge, hashlib.sha256).digest()


def find_server() -> Target | None:
    """The running server of this user, as it is recorded; None if there is no record or its process is gone."""
    record = paths.read_server_record()
    if record is None or not _alive(record.pid):
        return None
    return Target(address=record.address, token=paths.read_token(Path(record.token_file)), tls=record.tls)


def _alive(pid: int) -> bool:
    if sys.platform == "win32":  # os.kill would end the process there
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class Connection:
    """A verified channel with a stub for each service; the token goes with every call."""

    def __init__(self, channel: grpc.aio.Channel, info: server_pb2.ServerInfo, target: Target) -> None:
        self.channel = channel
        self.info = info
        self.target = target
        self.live = live_pb2_grpc.LiveServiceStub(channel)
        self.bounce = bounce_pb2_grpc.BounceServiceStub(channel)
        self.generate = generate_pb2_grpc.GenerateServiceStub(channel)
        self.models = models_pb2_grpc.ModelServiceStub(channel)
        self.server = server_pb2_grpc.ServerServiceStub(channel)

    async def close(self) -> None:
        await self.channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


async def connect(target: Target | None = None, *, timeout_s: float = 5.0) -> Connection:
    """A connection to `target`, or to this user's running server.

    Raises `ServerUnreachable`, `UntrustedServer`, or what the server reports.
    """
    target = target or find_server()
    if target is None:
        raise ServerUnreachable("no Stemline server is running; start one with `stemline serve`")
    info = await _verify(target, timeout_s)
    return Connection(open_channel(target), info, target)


async def _verify(target: Target, timeout_s: float) -> server_pb2.ServerInfo:
    challenge = secrets.token_bytes(32)
    request = server_pb2.GetInfoRequest(client_version=pyserver.__version__, challenge=challenge)
    async with open_channel(target, with_token=False) as channel:
        with remote_errors(target.address):
            stub = server_pb2_grpc.ServerServiceStub(channel)
            info = await stub.GetInfo(request, timeout=timeout_s, wait_for_ready=False)
    if not hmac.compare_digest(info.proof, proof(target.token, challenge)):
        raise UntrustedServer(
            f"the server at {target.address} does not hold your token: another user's server, an impostor, or the "
            "wrong token file; nothing was sent to it",
            address=target.address,
        )
    return info


def open_channel(target: Target, *, with_token: bool = True) -> grpc.aio.Channel:
    """An unverified channel; use `connect` unless you know why."""
    interceptors = _token_interceptors(target.token) if with_token else []
    if target.tls:
        credentials = grpc.ssl_channel_credentials(target.certificate)
        return grpc.aio.secure_channel(target.address, credentials, CLIENT_OPTIONS, interceptors=interceptors)
    return grpc.aio.insecure_channel(target.address, CLIENT_OPTIONS, interceptors=interceptors)


def call_error(error: grpc.aio.AioRpcError, address: str = "the server") -> StemlineError:
    """The `StemlineError` behind a failed call."""
    info = error_info(error)
    details = error.details() or ""
    if info is not None:
        return remote_error(info.reason, details, dict(info.metadata))
    if error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in details:
        limit = f"a message is larger than {MAX_MESSAGE_BYTES // 2**20} MiB, the limit: send audio in smaller pieces"
        return remote_error("MESSAGE_TOO_LARGE", limit, {"limit_bytes": str(MAX_MESSAGE_BYTES)})
    if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        return ServerUnreachable(f"cannot reach {address}: it is not running, or has just died ({details})")
    if error.code() == grpc.StatusCode.CANCELLED:
        return remote_error("CANCELLED", "the call was cancelled", {})
    return remote_error(error.code().name, details, {})


def error_info(error: grpc.aio.AioRpcError) -> error_details_pb2.ErrorInfo | None:
    """The ErrorInfo that our server sends with every error, if this one has it."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for detail in status_pb2.Status.FromString(value).details:
                info = error_details_pb2.ErrorInfo()
                if detail.Unpack(info) and info.domain == ERROR_DOMAIN:
                    return info
    return None


@contextmanager
def remote_errors(address: str = "the server") -> Iterator[None]:
    """Inside, a failed call raises the `StemlineError` that the server meant."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise call_error(error, address) from error


class _AddToken:
    """Adds the token to the metadata of a call, whatever its kind."""

    def __init__(self, token: str) -> None:
        self._header = ("authorization", f"Bearer {token}")

    async def _send(self, continuation: Any, details: grpc.aio.ClientCallDetails, request: Any) -> Any:
        metadata = grpc.aio.Metadata(*(details.metadata or ()), self._header)
        return await continuation(details._replace(metadata=metadata), request)


class _UnaryUnary(_AddToken, grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await self._send(continuation, client_call_details, request)


class _UnaryStream(_AddToken, grpc.aio.UnaryStreamClientInterceptor):  # type: ignore[misc]
    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await self._send(continuation, client_call_details, request)


class _StreamUnary(_AddToken, grpc.aio.StreamUnaryClientInterceptor):  # type: ignore[misc]
    async def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await self._send(continuation, client_call_details, request_iterator)


class _StreamStream(_AddToken, grpc.aio.StreamStreamClientInterceptor):  # type: ignore[misc]
    async def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await self._send(continuation, client_call_details, request_iterator)


def _token_interceptors(token: str) -> list[Any]:
    return [kind(token) for kind in (_UnaryUnary, _UnaryStream, _StreamUnary, _StreamStream)]
