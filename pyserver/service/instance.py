"""One server at a time for one state directory: two would write to the same jobs."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from pyserver import paths
from pyserver.errors import StemlineError


class ServerAlreadyRunning(StemlineError):
    reason = "SERVER_ALREADY_RUNNING"


@contextmanager
def only_instance(directory: Path) -> Iterator[None]:
    """Holds the lock of `directory` as long as this process lives; it goes with the process, however that ends."""
    with (directory / "server.lock").open("a+") as file:
        if not _try_lock(file):
            record = paths.read_server_record()
            pid = _read_pid(file) or (record.pid if record else "unknown")
            where = f" at {record.address}" if record and str(record.pid) == str(pid) else ""
            raise ServerAlreadyRunning(
                f"another Stemline server is already running (process {pid}{where}); "
                "use it, stop it, or set STEMLINE_HOME to another directory",
                pid=pid,
            )
        file.seek(0)
        file.truncate()
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def _read_pid(file: IO[str]) -> str:
    try:
        file.seek(0)
        return file.readline().strip()
    except OSError:  # Windows locks reading, too
        return ""


if sys.platform == "win32":
    import msvcrt

    def _try_lock(file: IO[str]) -> bool:
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _try_lock(file: IO[str]) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
