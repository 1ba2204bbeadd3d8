"""The root of every error a user can act on; `service` maps it to gRPC, `cli` to an exit code, both by `reason`."""

from typing import ClassVar


class StemlineError(Exception):
    """An error with a stable machine-readable `reason` and string `metadata`; the message says what to do."""

    reason: ClassVar[str] = "INTERNAL"

    def __init__(self, message: str, **metadata: object) -> None:
        super().__init__(message)
        self.metadata = {key: str(value) for key, value in metadata.items()}


class DiskFull(StemlineError):
    """No room for stems, a download or a job's files; metadata: `path`, of a job also `need_bytes` and `free_bytes`."""

    reason = "DISK_FULL"
