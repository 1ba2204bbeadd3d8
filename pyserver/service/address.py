"""Where the server may listen: a unix socket, loopback, or, with TLS only, anywhere."""

import errno
import ipaddress
import os
import socket
import stat
import sys
from dataclasses import dataclass
from pathlib import Path

from pyserver import paths
from pyserver.errors import StemlineError


class BadAddress(StemlineError):
    reason = "BAD_ADDRESS"


class TlsRequired(StemlineError):
    """Audio and token would cross a network in the clear."""

    reason = "TLS_REQUIRED"


class PortInUse(StemlineError):
    reason = "PORT_IN_USE"


@dataclass(frozen=True, slots=True)
class UnixAddress:
    path: Path

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True, slots=True)
class TcpAddress:
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


Address = UnixAddress | TcpAddress


def default_address() -> Address:
    """A unix socket in the runtime directory; on Windows a free loopback port."""
    return TcpAddress("127.0.0.1", 0) if sys.platform == "win32" else UnixAddress(paths.socket_path())


def parse(text: str) -> Address:
    """`unix:/path` or `host:port`; `[::1]:port` for IPv6."""
    if text.startswith("unix:"):
        path = Path("/" + text.removeprefix("unix:").lstrip("/")) if text.startswith("unix:/") else Path(text[5:])
        path = path.absolute()
        if len(os.fsencode(path)) > paths.MAX_SOCKET_PATH_BYTES:
            limit = paths.MAX_SOCKET_PATH_BYTES
            raise BadAddress(f"{path} is longer than the {limit} bytes a unix socket's path may have", path=path)
        return UnixAddress(path)
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise BadAddress(f"{text!r} is no address; write 127.0.0.1:7000, [::1]:7000 or unix:/path", address=text)
    return TcpAddress(host, int(port))


def require_safe(address: Address, *, tls: bool) -> None:
    """Refuses to listen beyond this machine without TLS."""
    if isinstance(address, TcpAddress) and not address.loopback and not tls:
        raise TlsRequired(
            f"{address} can be reached from other machines: give --tls-cert and --tls-key, or listen on 127.0.0.1",
            address=address,
        )


def claim(address: Address) -> None:
    """Makes sure that `address` is free, and removes the socket file of a server that has died.

    gRPC itself would unlink the socket of a living server without a word.
    """
    if isinstance(address, TcpAddress):
        _require_free_port(address)
        return
    try:
        mode = address.path.lstat().st_mode
    except FileNotFoundError:
        address.path.parent.mkdir(parents=True, exist_ok=True)
        return
    if not stat.S_ISSOCK(mode):
        raise BadAddress(f"{address.path} exists and is not a socket", path=address.path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(os.fspath(address.path))
        except ConnectionRefusedError:
            address.path.unlink(missing_ok=True)
            return
        except OSError as error:
            raise PortInUse(f"cannot tell whether {address} is in use: {error}", address=address) from error
    raise PortInUse(f"another server is listening on {address}", address=address)


def _require_free_port(address: TcpAddress) -> None:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        if sys.platform != "win32":  # there it would allow two servers on one port
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address.host, address.port))
        except OSError as error:
            raise _bind_error(address, error) from error


def _bind_error(address: TcpAddress, error: OSError) -> StemlineError:
    if error.errno == errno.EADDRINUSE:
        return PortInUse(f"port {address.port} is in use by another program; choose one with --listen", address=address)
    return BadAddress(f"cannot listen on {address}: {error.strerror or error}", address=address)
