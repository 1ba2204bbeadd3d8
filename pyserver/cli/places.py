"""Files wherever fsspec reaches: an object store, another host. What is on this machine stays a `Path`."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
from fsspec.registry import known_implementations

from pyserver.audio.files import AudioFileMissing
from pyserver.errors import StemlineError

_LOCAL = ("file", "local")


class UnknownProtocol(StemlineError):
    reason = "UNKNOWN_PROTOCOL"


class PackageMissing(StemlineError):
    reason = "PACKAGE_MISSING"


class StorageDenied(StemlineError):
    reason = "STORAGE_DENIED"


class StorageUnreachable(StemlineError):
    reason = "STORAGE_UNREACHABLE"


@dataclass(frozen=True, slots=True)
class RemotePath:
    """`url` is protocol://path as fsspec takes it; the methods are those of `Path`, as far as songs need them."""

    url: str

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str | PurePosixPath) -> "RemotePath":
        return RemotePath(f"{self.url.rstrip('/')}/{name}")

    @property
    def name(self) -> str:
        return PurePosixPath(self.url.partition("://")[2]).name

    @property
    def stem(self) -> str:
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix

    def is_dir(self) -> bool:
        with storage_errors(self):
            system, path = self._opened()
            return not system.isfile(path) and bool(system.isdir(path))

    def exists(self) -> bool:
        with storage_errors(self):
            system, path = self._opened()
            return bool(system.exists(path))

    def names(self) -> set[str]:
        """What lies in this folder; nothing if there is none."""
        with storage_errors(self):
            system, path = self._opened()
            try:
                return {PurePosixPath(found).name for found in system.ls(path, detail=False)}
            except FileNotFoundError:
                return set()

    def below(self) -> list[PurePosixPath]:
        """All files in this folder and the ones in it, as paths from here."""
        with storage_errors(self):
            system, path = self._opened()
            return sorted(PurePosixPath(found).relative_to(path) for found in system.find(path))

    def fetch(self, to: Path) -> Path:
        """A copy on this machine. Raises AudioFileMissing."""
        with storage_errors(self):
            system, path = self._opened()
            system.get_file(path, str(to))
        return to

    def put(self, source: Path) -> None:
        """A copy of a file of this machine."""
        with storage_errors(self):
            system, path = self._opened()
            system.makedirs(system._parent(path), exist_ok=True)
            system.put_file(str(source), path)

    def replace(self, target: "RemotePath") -> None:
        """Moves this file to another name in the same store, over what is there."""
        with storage_errors(self):
            system, path = self._opened()
            _, to = target._opened()
            system.mv(path, to)

    def remove_all(self) -> None:
        """Removes this folder, if it is there."""
        with storage_errors(self):
            system, path = self._opened()
            if system.exists(path):
                system.rm(path, recursive=True)

    def _opened(self) -> tuple[Any, str]:
        """The file system as it is now, whatever it remembers, and the path in its own words."""
        try:
            system, path = fsspec.core.url_to_fs(self.url)
        except ValueError as error:
            raise UnknownProtocol(f"{self}: {error}", path=self) from error
        except ImportError as error:
            protocol = self.url.partition("://")[0]
            module = known_implementations.get(protocol, {"class": "?"})["class"].partition(".")[0]
            command = "" if module == "fsspec" else f"; pip install {module}"
            raise PackageMissing(f"{self} cannot be reached: {error}{command}", path=self) from error
        system.invalidate_cache()
        return system, str(path).rstrip("/")


AnyPath = Path | RemotePath


def place(given: str) -> AnyPath:
    """What a command line means by `given`: a path, or a URL of some file system."""
    protocol, marked, rest = given.partition("://")
    if not marked or os.sep in protocol:
        return Path(given)
    return Path(rest) if protocol in _LOCAL else RemotePath(given)


@contextmanager
def storage_errors(path: AnyPath) -> Iterator[None]:
    """Each store has its own exceptions; here they become ours."""
    try:
        yield
    except StemlineError:
        raise
    except FileNotFoundError as error:
        raise AudioFileMissing(f"{path} does not exist", path=path) from error
    except Exception as error:  # of libraries that may not even be installed
        said = f"{type(error).__name__}: {error}"
        if isinstance(error, PermissionError) or "credential" in said.lower():
            raise StorageDenied(
                f"{path}: access denied, or no credentials were found ({said}); store them where this file system's "
                "library looks for them",
                path=path,
            ) from error
        raise StorageUnreachable(f"{path}: the store cannot be reached ({said})", path=path) from error
