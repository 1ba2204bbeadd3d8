"""Reads files of `torch.save` without running anything in them, and without torch.

Such a file is a zip with one pickle and one raw file a tensor storage. A pickle may name any function of any module
and have it called. Here a global is one of a dozen known names, which build plain data, or else becomes a `Foreign`
object that only remembers what it was called and given; no module is imported for a file's sake. Tensors are
described first and read from the zip only when asked for, so that of a 10 GB checkpoint only what is used is read.
"""

import io
import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt

from pyserver.errors import StemlineError

_PICKLE_LIMIT_BYTES = 1 << 28  # keys, shapes and hyper-parameters of the largest published file take 4 MiB
_ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
_STORAGE_DTYPES = {
    "DoubleStorage": "F64",
    "FloatStorage": "F32",
    "HalfStorage": "F16",
    "BFloat16Storage": "BF16",
    "LongStorage": "I64",
    "IntStorage": "I32",
    "ShortStorage": "I16",
    "CharStorage": "I8",
    "ByteStorage": "U8",
    "BoolStorage": "BOOL",
}


class NotACheckpoint(StemlineError):
    reason = "BAD_CHECKPOINT"


class TruncatedCheckpoint(StemlineError):
    reason = "TRUNCATED_CHECKPOINT"

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path} is cut short or damaged ({problem}); download it again", path=path)


class LegacyCheckpoint(StemlineError):
    reason = "LEGACY_CHECKPOINT"

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} is a bare pickle, as PyTorch wrote before 1.6; save it again with a newer PyTorch", path=path
        )


class Foreign:
    """Stands for an object of a class that is not ours to run; holds what the file gave it, and does nothing."""

    def __init__(self, name: str, arguments: tuple[Any, ...] = ()) -> None:
        self.name = name
        self.arguments = arguments
        self.items: list[Any] = []
        self.mapping: dict[Any, Any] = {}
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.mapping[key] = value

    def append(self, value: Any) -> None:
        self.items.append(value)

    def extend(self, values: Any) -> None:
        self.items.extend(values)

    def __repr__(self) -> str:
        return f"<foreign {self.name}>"


class StoredTensor(NamedTuple):
    """Where a tensor lies in the archive. `offset` and `stride` count elements; `dtype` is safetensors' name.

    A tuple, because a pickle can change the fields of any object that is not, after they were checked.
    """

    storage: str
    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    storage_items: int

    @property
    def num_bytes(self) -> int:
        return math.prod(self.shape) * _ITEM_BYTES[self.dtype]


class TorchArchive:
    """An open `.ckpt` or `.pt` file: `root` is what was saved, tensors in it as `StoredTensor`.

    Raises NotACheckpoint, TruncatedCheckpoint or LegacyCheckpoint.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._zip = _open_zip(path)
        try:
            self._prefix = self._find_pickle()
            self.root = self._unpickle()
        except BaseException:
            self._zip.close()
            raise

    def __enter__(self) -> "TorchArchive":
        return self

    def __exit__(self, *exception: object) -> None:
        self._zip.close()

    def read(self, tensor: StoredTensor) -> bytes:
        """The tensor's elements in row-major order, little endian."""
        size = _ITEM_BYTES[tensor.dtype]
        raw = self._read(f"{self._prefix}data/{tensor.storage}")
        if len(raw) < tensor.storage_items * size:
            raise TruncatedCheckpoint(self.path, f"storage {tensor.storage} has {len(raw)} bytes")
        words = np.frombuffer(raw, dtype=f"V{size}")[tensor.offset :]
        return _gather(words, tensor).tobytes()

    def _find_pickle(self) -> str:
        names = self._zip.namelist()
        pickles = [name for name in names if name == "data.pkl" or name.endswith("/data.pkl")]
        if len(pickles) != 1 or any(name.endswith("constants.pkl") for name in names):
            raise NotACheckpoint(f"{self.path} is a zip file, but not one that torch.save has written", path=self.path)
        prefix = pickles[0].removesuffix("data.pkl")
        order = f"{prefix}byteorder"
        if order in names and self._read(order).strip() != b"little":
            raise NotACheckpoint(f"{self.path} was written on a big-endian machine; save it again", path=self.path)
        return prefix

    def _unpickle(self) -> Any:
        name = f"{self._prefix}data.pkl"
        if self._zip.getinfo(name).file_size > _PICKLE_LIMIT_BYTES:
            raise NotACheckpoint(f"{self.path} holds a pickle too large to be that of a checkpoint", path=self.path)
        try:
            return _InertUnpickler(io.BytesIO(self._read(name))).load()
        except StemlineError:
            raise
        except Exception as error:  # a hostile pickle can fail in any way; whatever it was, it was data
            raise NotACheckpoint(f"{self.path}: its pickle is malformed ({error})", path=self.path) from error

    def _read(self, name: str) -> bytes:
        try:
            return self._zip.read(name)
        except KeyError as error:
            raise TruncatedCheckpoint(self.path, f"{name} is missing") from error
        except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, RuntimeError) as error:
            raise TruncatedCheckpoint(self.path, str(error)) from error


class _Rebuild:
    """A function the pickle may call. An instance without attributes: nothing in a file can alter it."""

    __slots__ = ("_call",)
    _call: Callable[..., Any]

    def __init__(self, call: Callable[..., Any]) -> None:
        object.__setattr__(self, "_call", call)

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise pickle.UnpicklingError("functions cannot be changed")


class _InertUnpickler(pickle._Unpickler):
    """`find_class` is the only door through which a pickle reaches code; it opens on a dozen names.

    The one written in Python, because a single opcode can make the one written in C allocate 64 GB.
    """

    def find_class(self, module: str, name: str) -> Any:
        known = _GLOBALS.get((module, name))
        if known is not None:
            return _Rebuild(known)
        if (module, name) == ("collections", "OrderedDict"):
            return _OrderedDict  # must be a class: pickles fill it by NEWOBJ and BUILD
        if module == "torch" and name in _STORAGE_DTYPES:
            return _StorageType(_STORAGE_DTYPES[name])
        return _foreign_class(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        match pid:
            case ("storage", _StorageType(dtype=dtype), str() as key, str(), int() as items) if items >= 0:
                if not key.isascii() or not key.isalnum():
                    raise pickle.UnpicklingError(f"storage with the odd name {key!r}")
                return _Storage(key, dtype, items)
            case ("storage", Foreign() | type(), *_):
                raise pickle.UnpicklingError("storage of a kind of number that is not known")
        raise pickle.UnpicklingError("persistent object that is not a storage")


class _OrderedDict(OrderedDict[Any, Any]):
    """state_dict's container; the `_metadata` that torch hangs on it is dropped."""

    def __setstate__(self, state: Any) -> None:
        pass


class _StorageType(NamedTuple):
    dtype: str


class _Storage(NamedTuple):
    key: str
    dtype: str
    items: int


def _foreign_class(name: str) -> type[Foreign]:
    def new(cls: type[Foreign], *arguments: Any) -> Foreign:
        made = object.__new__(cls)
        Foreign.__init__(made, name, arguments)
        return made

    return type("ForeignObject", (Foreign,), {"__new__": new, "__init__": lambda self, *_: None})


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> StoredTensor:
    if not isinstance(storage, _Storage):
        raise pickle.UnpicklingError("tensor without a storage")
    numbers = (offset, *shape, *stride)
    if len(shape) != len(stride) or not all(isinstance(n, int) and n >= 0 for n in numbers):
        raise pickle.UnpicklingError("tensor of an impossible shape")
    last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
    count = math.prod(shape)
    if count and (last >= storage.items or count > storage.items):
        raise pickle.UnpicklingError("tensor that reaches beyond its storage")
    return StoredTensor(storage.key, storage.dtype, tuple(shape), tuple(stride), offset, storage.items)


def _rebuild_parameter(tensor: Any, *_: Any) -> Any:
    return tensor


def _gather(words: npt.NDArray[np.void], tensor: StoredTensor) -> npt.NDArray[np.void]:
    if math.prod(tensor.shape) == 0:
        return words[:0]
    steps = tuple(step * words.itemsize for step in tensor.stride)
    return np.ascontiguousarray(np.lib.stride_tricks.as_strided(words, tensor.shape, steps, writeable=False))


_GLOBALS: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _rebuild_parameter,
    ("torch", "Size"): tuple,
}


def _open_zip(path: Path) -> zipfile.ZipFile:
    try:
        with path.open("rb") as file:
            head = file.read(4)
    except OSError as error:
        raise NotACheckpoint(f"{path} cannot be read ({error.strerror})", path=path) from error
    if not head.startswith(b"PK"):
        if head[:1] == b"\x80":
            raise LegacyCheckpoint(path)
        what = "is empty" if not head else "is not a checkpoint of PyTorch"
        raise NotACheckpoint(f"{path} {what}", path=path)
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, EOFError, OSError, ValueError, NotImplementedError) as error:
        raise TruncatedCheckpoint(path, str(error)) from error
