"""The one place that knows how an error travels: `StemlineError` to google.rpc.Status with an ErrorInfo.

An error that nobody foresaw becomes INTERNAL with an id; its text goes to the log, never to the client.
"""

import inspect
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import grpc
from google.rpc import code_pb2, error_details_pb2, status_pb2

from pyserver.errors import StemlineError
from pyserver.service.channel import ERROR_DOMAIN

log = logging.getLogger(__name__)

OUR_SERVICES = "/stems.v1."

Scope = Callable[[grpc.aio.ServicerContext], AbstractAsyncContextManager[None]]

_Code = grpc.StatusCode
# Every reason has its code, also those that only the command line raises today.
_REASONS: dict[grpc.StatusCode, tuple[str, ...]] = {
    _Code.UNAUTHENTICATED: ("MISSING_TOKEN", "WRONG_TOKEN", "UNTRUSTED_SERVER"),
    _Code.PERMISSION_DENIED: ("UNSAFE_PATH", "NOT_WRITABLE", "HUB_ACCESS_DENIED", "STORAGE_DENIED"),
    _Code.INVALID_ARGUMENT: (
        *("INVALID_REQUEST", "JOB_INVALID", "STEM_UNKNOWN", "LATENCY_NOT_POSSIBLE"),
        *("MODEL_HAS_NO_REFINER", "MODEL_CANNOT", "MODEL_NEEDS_TORCH"),
        *("INPUT_EMPTY", "INPUT_NOT_FINITE", "EMPTY_AUDIO", "NON_FINITE_AUDIO", "UNSUPPORTED_AUDIO"),
        *("BAD_CHECKPOINT", "LEGACY_CHECKPOINT", "UNKNOWN_NETWORK", "KEYS_DO_NOT_FIT", "BAD_MODEL_NAME"),
        *("BAD_CONFIGURATION", "CONFIGURATION_CONTRADICTED"),
        *("USAGE", "UNKNOWN_PROTOCOL", "BAD_ADDRESS", "SAME_OUTPUT", "STEMS_DIFFER"),
    ),
    _Code.OUT_OF_RANGE: ("UPLOAD_OUT_OF_ORDER", "OVER_FULL_SCALE"),
    _Code.NOT_FOUND: (
        *("JOB_NOT_FOUND", "UNKNOWN_MODEL", "HUB_FILE_NOT_FOUND"),
        *("FILE_NOT_FOUND", "NO_AUDIO_FOUND", "NO_TOKEN_FILE", "NO_SOUND_DEVICE"),
    ),
    _Code.ALREADY_EXISTS: ("REQUEST_ID_REUSED", "MODEL_EXISTS", "OUTPUT_EXISTS", "SERVER_ALREADY_RUNNING"),
    _Code.FAILED_PRECONDITION: (
        *("JOB_WRONG_STATE", "MODEL_NOT_DOWNLOADED", "MODEL_IN_USE", "GPU_NOT_AVAILABLE", "CONFIGURATION_NEEDED"),
        *("NO_MODEL_CAN", "NO_NODE_FITS", "WORKERS_DIFFER", "PACKAGE_MISSING"),
        *("ONNX_EXPORT_MISSING", "ONNX_EXPORT_STALE", "PROVIDER_NOT_ACTIVE", "HALF_PRECISION_NOT_AVAILABLE"),
        *("TLS_REQUIRED", "TLS_FILES", "PORT_IN_USE", "STATE_IN_USE"),
    ),
    _Code.DATA_LOSS: (
        *("UPLOAD_CORRUPTED", "DOWNLOAD_CORRUPTED", "STEM_DAMAGED", "JOB_CORRUPTED", "TRUNCATED_AUDIO"),
        *("WRONG_CHECKSUM", "BROKEN_CARD", "MODEL_BROKEN", "TRUNCATED_CHECKPOINT"),
    ),
    _Code.RESOURCE_EXHAUSTED: ("DISK_FULL", "OUT_OF_MEMORY", "TOO_MANY_LIVE_SESSIONS"),
    _Code.UNAVAILABLE: (
        *("SHUTTING_DOWN", "SERVER_UNREACHABLE", "SERVER_LOST", "SERVER_DID_NOT_START"),
        *("HUB_UNREACHABLE", "HUB_ANSWER", "DOWNLOAD_INTERRUPTED", "STORAGE_UNREACHABLE"),
        *("CLUSTER_UNREACHABLE", "WORKER_LOST", "NO_WORKERS_LEFT"),
    ),
    _Code.UNIMPLEMENTED: ("UNKNOWN_ARCHITECTURE",),
    _Code.DEADLINE_EXCEEDED: ("DEADLINE_MISSED",),
    _Code.INTERNAL: ("ENGINE_CRASHED", "MODEL_OUTPUT_NOT_FINITE", "ONNX_EXPORT_FAILED", "INTERNAL"),
}
CODES = {reason: code for code, reasons in _REASONS.items() for reason in reasons}


class InvalidRequest(StemlineError):
    """A request that no server could carry out; the message names the field."""

    reason = "INVALID_REQUEST"


def status_of(error: StemlineError) -> tuple[grpc.StatusCode, bytes]:
    """The gRPC code of an error and its serialised google.rpc.Status."""
    code = CODES.get(error.reason, _Code.FAILED_PRECONDITION)
    number: int = code.value[0]
    assert number in code_pb2.Code.values()
    status = status_pb2.Status(code=number, message=str(error))
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=ERROR_DOMAIN, metadata=error.metadata)
    status.details.add().Pack(info)
    return code, status.SerializeToString()


@asynccontextmanager
async def reported(context: grpc.aio.ServicerContext) -> AsyncIterator[None]:
    """Inside, errors end the call with a status; cancellation and deliberate aborts pass through."""
    try:
        yield
    except grpc.aio.AbortError:
        raise
    except StemlineError as error:
        code, status = status_of(error)
        level = logging.ERROR if code == _Code.INTERNAL else logging.INFO
        log.log(level, "call refused: %s", error, extra={"reason": error.reason, **_prefixed(error.metadata)})
        await context.abort(code, str(error), (("grpc-status-details-bin", status),))
    except Exception:
        error_id = secrets.token_hex(6)
        log.exception("error %s in a handler", error_id, extra={"error_id": error_id})
        unforeseen = StemlineError(f"something went wrong inside the server; error {error_id} in its log", id=error_id)
        code, status = status_of(unforeseen)
        await context.abort(code, str(unforeseen), (("grpc-status-details-bin", status),))


def _prefixed(metadata: dict[str, str]) -> dict[str, str]:
    # LogRecord refuses `extra` keys that are its own, such as "name".
    return {f"error_{key}": value for key, value in metadata.items()}


class Within(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Runs every handler of our own services inside `scope`; health and reflection stay as they are."""

    def __init__(self, scope: Scope, free: frozenset[str] = frozenset()) -> None:
        self._scope = scope
        self._free = free

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler | None:
        handler = await continuation(details)
        if handler is None or not details.method.startswith(OUR_SERVICES) or details.method in self._free:
            return handler
        return wrapped(handler, self._scope)


def wrapped(handler: Any, scope: Scope) -> grpc.RpcMethodHandler:
    """`handler`, its behaviour inside `scope`, be it a coroutine or an asynchronous generator."""
    behaviour = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream

    async def unary(request: Any, context: grpc.aio.ServicerContext) -> Any:
        async with scope(context):
            return await behaviour(request, context)

    async def stream(request: Any, context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
        async with scope(context):
            async for response in behaviour(request, context):
                yield response

    make = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[handler.request_streaming, handler.response_streaming]
    inner = stream if inspect.isasyncgenfunction(behaviour) else unary
    return make(inner, handler.request_deserializer, handler.response_serializer)
