"""Where Stemline keeps what is not a song: the job store, the socket, the token, the record of the running server.

`STEMLINE_HOME` puts all of it under one directory. Without it: state in the platform's state directory; the runtime
directory (socket, token, `server.json`) in `$XDG_RUNTIME_DIR/stemline`, else `/run/user/<uid>/stemline`, else
`/tmp/stemline-<uid>`; elsewhere than on Linux it is what platformdirs says. A client finds a server by reading
`server.json` in the runtime directory, in this order and no other.
"""

import hashlib
import json
import os
import secrets
import stat
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import platformdirs

from pyserver.errors import StemlineError

# sun_path holds 108 bytes on Linux and 104 on macOS and the BSDs, its closing zero included.
MAX_SOCKET_PATH_BYTES = 100


class UnsafePath(StemlineError):
    """Somebody else could read or replace what we keep here."""

    reason = "UNSAFE_PATH"


class TokenUnreadable(StemlineError):
    """There is no token where one was expected."""

    reason = "NO_TOKEN_FILE"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerRecord:
    """What a running server says of itself in `server.json`."""

    address: str  # as gRPC takes it: "unix:/...", "127.0.0.1:7000"
    pid: int
    version: str
    token_file: str
    tls: bool = False


def _home() -> Path | None:
    given = os.environ.get("STEMLINE_HOME")
    return Path(given).expanduser().absolute() if given else None


def state_dir() -> Path:
    """Jobs and logs; survives a reboot. Created for the user alone."""
    home = _home()
    return private_dir(home / "state" if home else Path(platformdirs.user_state_dir("stemline", appauthor=False)))


def runtime_dir(home: Path | None = None) -> Path:
    """Socket, token and `server.json`, of the user or of one at `home`; mode 0700 and ours, or `UnsafePath`."""
    home = home or _home()
    return private_dir(home / "run" if home else _system_runtime_dir())


def _system_runtime_dir() -> Path:
    if sys.platform != "linux":
        return Path(platformdirs.user_runtime_dir("stemline", appauthor=False))
    for candidate in (os.environ.get("XDG_RUNTIME_DIR", ""), f"/run/user/{os.getuid()}"):
        if candidate and os.access(candidate, os.W_OK | os.X_OK):
            return Path(candidate) / "stemline"
    # Not tempfile.gettempdir(): a DAW and a shell may disagree about TMPDIR and must meet at one place.
    return Path(f"/tmp/stemline-{os.getuid()}")


def private_dir(path: Path) -> Path:
    """`path`, created if need be, after making sure that nobody else can look into it or owns it."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if sys.platform == "win32":
        return path
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise UnsafePath(
            f"{path} is not a directory (a link does not count); remove it or set STEMLINE_HOME", path=path
        )
    if found.st_uid != os.getuid():
        raise UnsafePath(
            f"{path} belongs to user {found.st_uid}, not to you; set STEMLINE_HOME to a directory of yours",
            path=path,
        )
    if found.st_mode & 0o077:
        path.chmod(0o700)
    return path


def socket_path() -> Path:
    """Where the default server listens: in the runtime directory, or at a short path if that one is too long."""
    path = runtime_dir() / "server.sock"
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH_BYTES:
        return path
    name = "stemline-" + hashlib.sha256(os.fsencode(path)).hexdigest()[:12]
    for base in (os.environ.get("XDG_RUNTIME_DIR", ""), "/tmp"):
        short = Path(base) / name / "server.sock"
        if base and os.access(base, os.W_OK | os.X_OK) and len(os.fsencode(short)) <= MAX_SOCKET_PATH_BYTES:
            private_dir(short.parent)
            return short
    raise UnsafePath(f"{path} is too long for a unix socket; set STEMLINE_HOME to a shorter directory", path=path)


def token_path() -> Path:
    return runtime_dir() / "token"


def load_or_create_token() -> str:
    """The token of this user's server, made on first use. Two processes that race for it get the same one."""
    path = token_path()
    if not path.exists():
        fresh = path.with_name(f"token.{os.getpid()}.{secrets.token_hex(4)}")
        _write_private(fresh, secrets.token_urlsafe(32) + "\n")
        try:
            os.link(fresh, path)  # atomic, and fails if the other process was first
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    return read_token(path)


def read_token(path: Path) -> str:
    """The token in `path`; `TokenUnreadable` if there is none, `UnsafePath` if others could have read it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        with os.fdopen(descriptor, encoding="ascii") as file:
            mode = os.fstat(file.fileno()).st_mode
            token = file.read().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise TokenUnreadable(f"cannot read the token in {path}: {error}", path=path) from error
    if sys.platform != "win32" and mode & 0o077:
        raise UnsafePath(f"others can read the token in {path}: delete it to get a new one", path=path)
    if not token:
        raise TokenUnreadable(f"{path} holds no token; delete it and start the server again", path=path)
    return token


def write_server_record(record: ServerRecord) -> None:
    path = runtime_dir() / "server.json"
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix="server.json.", delete=False) as file:
        file.write(json.dumps(asdict(record)) + "\n")
    Path(file.name).replace(path)


def read_server_record(home: Path | None = None) -> ServerRecord | None:
    """What the last server wrote; it may have died since. None if there is no record or it makes no sense."""
    try:
        raw = json.loads((runtime_dir(home) / "server.json").read_text(encoding="utf-8"))
        return ServerRecord(**raw)
    except (FileNotFoundError, json.JSONDecodeError, TypeError):
        return None


def remove_server_record(pid: int) -> None:
    """Removes `server.json` if it is still that of process `pid`."""
    record = read_server_record()
    if record is not None and record.pid == pid:
        (runtime_dir() / "server.json").unlink(missing_ok=True)


def _write_private(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
