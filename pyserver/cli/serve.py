"""`serve`: the server in the foreground."""

import asyncio
import contextlib
import os
import signal
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

import pyserver
from pyserver import paths
from pyserver.allocator import share_one_heap
from pyserver.cli.exits import Exit
from pyserver.collector import pass_over_what_is_imported
from pyserver.engine.messages import BackendChoice
from pyserver.errors import StemlineError
from pyserver.models.catalogue import DEFAULT_MODEL
from pyserver.service import address, instance, logs
from pyserver.service.server import Server, ServerConfig, TlsFiles


class UsageError(StemlineError):
    reason = "USAGE"


@dataclass(frozen=True, kw_only=True)
class ServeArgs:
    """Where and how the server runs."""

    gpu: int | None = None
    """Index of the GPU to use; without it and without --cpu: a GPU if there is one."""
    cpu: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Use no GPU."""
    threads: int = 0
    """CPU threads of the engine; 0: one for each physical core."""
    backend: Literal["auto", "torch", "torch-half", "onnx", "tensorrt"] = "auto"
    """What computes the networks. auto: ONNX Runtime where `models export-onnx` found it to be faster, else PyTorch;
    torch-half: PyTorch in half precision, on a CPU too, and with a larger difference from float32 than auto allows."""
    listen: str | None = None
    """unix:/path or host:port; default: a unix socket of this user. Beyond this machine TLS is required."""
    tls_cert: Path | None = None
    """Certificate chain (PEM)."""
    tls_key: Path | None = None
    """Its private key (PEM)."""
    token_file: Path | None = None
    """The token that clients must show; default: one that was made for this user."""
    model: str = DEFAULT_MODEL
    """Model to load at the start and to use where a client names none."""
    metrics_port: int | None = None
    """Serve Prometheus metrics on this port of 127.0.0.1."""
    max_live_sessions: int = 16
    """Never more than these at once, even if the machine could hold them."""
    log_format: Literal["text", "json"] = "text"
    """Of the log on stderr; the file server.log in the state directory is always JSON."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    until_stdin_closes: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Stop with the program that started the server and holds its standard input, however that ends."""

    @property
    def device(self) -> str:
        if self.cpu and self.gpu is not None:
            raise UsageError("--cpu and --gpu exclude each other")
        if self.cpu:
            return "cpu"
        return "auto" if self.gpu is None else f"cuda:{self.gpu}"


def serve(args: ServeArgs) -> int:
    """Run the server until it is told to stop (SIGTERM, SIGINT); a second signal stops it at once."""
    if (args.tls_cert is None) != (args.tls_key is None):
        raise UsageError("--tls-cert and --tls-key belong together")
    tls = TlsFiles(certificate=args.tls_cert, key=args.tls_key) if args.tls_cert and args.tls_key else None
    device = args.device
    share_one_heap()
    pass_over_what_is_imported()
    listen = address.parse(args.listen) if args.listen else None
    if listen:
        address.require_safe(listen, tls=tls is not None)
    state_dir = paths.state_dir()
    with instance.only_instance(state_dir):
        logs.configure(args.log_format, args.log_level, state_dir / "server.log")
        token = paths.read_token(args.token_file) if args.token_file else paths.load_or_create_token()
        config = ServerConfig(
            listen=listen,
            tls=tls,
            token=token,
            token_file=(args.token_file or paths.token_path()).absolute(),
            device=device,
            threads=args.threads,
            backend=BackendChoice(args.backend),
            model=args.model,
            metrics_port=args.metrics_port,
            max_live_sessions=args.max_live_sessions,
            state_dir=state_dir,
        )
        return asyncio.run(_until_stopped(Server(config), args))


async def _until_stopped(server: Server, args: ServeArgs) -> int:
    stopped = asyncio.Event()
    starting = asyncio.create_task(server.start())
    _on_signals(stopped)
    if args.until_stdin_closes:
        _on_closed_stdin(stopped)
    waiting = asyncio.create_task(stopped.wait())
    try:
        await asyncio.wait({starting, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            return Exit.OK
        where = starting.result()
        print(f"Stemline {pyserver.__version__} is ready: {where} · {server.device} · model {args.model}", flush=True)
        await waiting
        print("stopping", file=sys.stderr, flush=True)
        await server.stop()
        return Exit.OK
    finally:
        await server.abandon()


def _on_signals(stopped: asyncio.Event) -> None:
    """The first signal asks, the second one insists: jobs on disk are good at any moment, so nothing is lost."""

    def received() -> None:
        if stopped.is_set():
            paths.remove_server_record(os.getpid())
            os._exit(Exit.CANCELLED)
        stopped.set()

    if sys.platform == "win32":  # no add_signal_handler there
        signal.signal(signal.SIGINT, lambda *_: received())
        return
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, received)


def _on_closed_stdin(stopped: asyncio.Event) -> None:
    """A thread that may be left in the middle of it: on Windows nothing else can wait for a pipe."""
    loop = asyncio.get_running_loop()

    def wait() -> None:
        with contextlib.suppress(OSError, RuntimeError):  # it is over anyway
            while os.read(0, 1024):
                pass
            loop.call_soon_threadsafe(stopped.set)

    threading.Thread(target=wait, name="stdin", daemon=True).start()
