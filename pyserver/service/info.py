"""The Server service: who this server is, and the proof that it holds the token."""

import grpc
import psutil
from stems.v1 import server_pb2

import pyserver
from pyserver.service import wire
from pyserver.service.channel import MAX_MESSAGE_BYTES, proof
from pyserver.service.core import Core
from pyserver.service.errors import InvalidRequest
from pyserver.service.live import LiveService

PROTOCOL_MINOR = 0
MIN_CHALLENGE, MAX_CHALLENGE = 16, 64


class ServerService:
    """stems.v1.ServerService."""

    def __init__(self, core: Core, live: LiveService) -> None:
        self._core = core
        self._live = live

    async def GetInfo(
        self, request: server_pb2.GetInfoRequest, context: grpc.aio.ServicerContext
    ) -> server_pb2.ServerInfo:
        challenge = request.challenge
        # Without a challenge there is no proof; a short one could be answered from a table.
        if challenge and not MIN_CHALLENGE <= len(challenge) <= MAX_CHALLENGE:
            raise InvalidRequest(f"challenge must have {MIN_CHALLENGE} to {MAX_CHALLENGE} random bytes")
        core, warm = self._core, self._core.warm.is_set()
        return server_pb2.ServerInfo(
            version=pyserver.__version__,
            protocol_minor=PROTOCOL_MINOR,
            devices=[self._device(), *self._other_devices()] if warm else [],
            max_live_sessions=core.max_live_sessions,
            open_live_sessions=self._live.open_sessions,
            max_message_bytes=MAX_MESSAGE_BYTES,
            start_time=wire.timestamp(core.start_time_s),
            proof=proof(core.token, challenge) if challenge else b"",
            default_model=core.default_model,
            engine_pid=core.engine.pid if warm else 0,
            engine_restarts=core.engine.restarts if warm else 0,
        )

    def _other_devices(self) -> list[server_pb2.Device]:
        return [
            server_pb2.Device(
                index=device.index,
                name=device.name,
                backend=device.backend,
                total_bytes=device.total_bytes,
                inactive_reason="another one was chosen",
            )
            for device in self._core.engine.device.others
        ]

    def _device(self) -> server_pb2.Device:
        """The device that really computes, as the engine found it; main memory as it is now."""
        device = self._core.engine.device
        on_cpu = device.backend.endswith("cpu")
        return server_pb2.Device(
            index=device.index,
            name=device.name,
            backend=device.backend,
            total_bytes=device.total_bytes,
            free_bytes=psutil.virtual_memory().available if on_cpu else device.free_bytes,
            active=True,
        )
