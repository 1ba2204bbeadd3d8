"""Whom the plugin's client trusts: never an impostor with the token, another computer only by TLS."""

import socket
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from client_tool import BOUNCED, FOREVER, NEEDS_TOOL, READY, UNHURRIED, UNTRUSTED, bounce, bounced, play
from service_support import RunningServer, running_server, song
from stems.v1 import live_pb2_grpc, models_pb2_grpc, server_pb2, server_pb2_grpc

from pyserver.service.channel import proof

pytestmark = NEEDS_TOOL


class Impostor(
    server_pb2_grpc.ServerServiceServicer,  # type: ignore[misc]
    live_pb2_grpc.LiveServiceServicer,  # type: ignore[misc]
    models_pb2_grpc.ModelServiceServicer,  # type: ignore[misc]
):
    """A server that does not hold the token and would like to."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.asked = threading.Event()

    def GetInfo(self, request: server_pb2.GetInfoRequest, context: grpc.ServicerContext) -> server_pb2.ServerInfo:
        self.heard += [str(value) for pair in context.invocation_metadata() for value in pair]
        self.asked.set()
        return server_pb2.ServerInfo(version="0.1.0", proof=proof("guess", request.challenge))

    def ListModels(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.heard += [str(value) for pair in context.invocation_metadata() for value in pair]
        return context.abort(grpc.StatusCode.UNAVAILABLE, "later")

    def Separate(self, requests: Any, context: grpc.ServicerContext) -> Any:
        self.heard += [str(value) for pair in context.invocation_metadata() for value in pair]
        return context.abort(grpc.StatusCode.UNAVAILABLE, "later")


@contextmanager
def impostor_at(address: str) -> Iterator[Impostor]:
    impostor = Impostor()
    server = grpc.server(futures.ThreadPoolExecutor(4))
    for add in (
        server_pb2_grpc.add_ServerServiceServicer_to_server,
        live_pb2_grpc.add_LiveServiceServicer_to_server,
        models_pb2_grpc.add_ModelServiceServicer_to_server,
    ):
        add(impostor, server)
    assert server.add_insecure_port(address)
    server.start()
    try:
        yield impostor
    finally:
        server.stop(0).wait()


def test_who_takes_over_the_address_of_a_dead_server_never_sees_the_token(tiny_model_dir: Path, tmp_path: Path) -> None:
    with running_server(tmp_path / "home", tiny_model_dir) as server:
        token, address = server.target.token, server.target.address
        where = ("--address", address, "--token", str(server.home / "run" / "token"))
        with play(server.home, tmp_path, 1.0, *FOREVER, *UNHURRIED, *where) as tool:
            tool.wait_for("state", state=READY)
            server.kill()
            Path(address.removeprefix("unix:")).unlink()
            with impostor_at(address) as impostor:
                state = tool.wait_for("state", state=UNTRUSTED)
                assert state["reason"] == "UNTRUSTED_SERVER"
                time.sleep(1)
                assert impostor.asked.is_set()
                assert not any(token in heard for heard in impostor.heard)
            tool.tell("quit")
            assert tool.finish() == 0


def test_a_wrong_token_is_not_a_trusted_server(server: RunningServer, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("x" * 43)
    (tmp_path / "token").chmod(0o600)
    where = ("--address", server.target.address, "--token", str(tmp_path / "token"))
    with play(server.home, tmp_path, 1.0, *FOREVER, *UNHURRIED, *where) as tool:
        assert tool.wait_for("state", state=UNTRUSTED)["sent"] == 0
        tool.tell("quit")
        assert tool.finish() == 0


def test_another_computer_needs_tls_and_a_token(server: RunningServer, tmp_path: Path) -> None:
    with play(server.home, tmp_path, 1.0, *FOREVER, "--address", "studio.example:7000") as tool:
        state = tool.wait_for("state", reason="REMOTE_NEEDS_TLS")
        assert state["message"] == "Another computer needs TLS and a token"
        tool.tell("quit")
        assert tool.finish() == 0


async def test_another_computer_is_reached_by_tls(
    tiny_model_dir: Path, tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    cert, key = certificate
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--listen", f"0.0.0.0:{port}", "--tls-cert", str(cert), "--tls-key", str(key)]
    with running_server(tmp_path / "home", tiny_model_dir, *options) as server:
        where = ("--address", f"localhost:{port}", "--token", str(server.home / "run" / "token"), "--tls")
        song_NC = song(2.0)
        with bounce(tmp_path / "nobody", tmp_path, song_NC, *where, "--ca", str(cert)) as tool:
            assert tool.end()["state"] == BOUNCED
            assert tool.finish() == 0
        expected = await bounced(server, song_NC, noise_seed=7)
        assert (tmp_path / "stems" / "drums.f32").read_bytes() == expected["drums"]
        # Without its authority's certificate the server is a stranger.
        with bounce(tmp_path / "nobody", tmp_path, song_NC, *where, "--patience-s", "1") as tool:
            assert tool.end()["reason"] == "SERVER_UNREACHABLE"
