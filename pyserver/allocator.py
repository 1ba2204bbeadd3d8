"""How glibc hands out memory in processes that pass large blocks of audio on. Elsewhere none of this does anything.

Settings are to be made before threads are started.
"""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8  # of mallopt(3)


def share_one_heap() -> None:
    """From now on threads of this process take memory from one heap, where glibc would give each thread one of its own.

    A window's blocks are of many MiB and wander: one thread reads it from the engine's pipe, another adds and writes
    it. Each heap would keep the most that its thread ever had in pieces that no other thread can use, and more so the
    longer songs are. To hand blocks back to the system at once would cost more than half of the server's time, in
    pages to be cleared.
    """
    _set(_ARENA_MAX, 1)


def keep_freed_memory() -> bool:
    """Freed tensors are kept for the next ones: whether that can be had.

    By default glibc gives large blocks back at once, and the system hands out zeroed pages again, in every operation of
    a network: a fifth of the shipped model's time with its refiner.
    """
    return _set(_MMAP_MAX, 0) and _set(_TRIM_THRESHOLD, -1)


def give_back_memory() -> None:
    """What is kept, after all, to the system; takes milliseconds."""
    trim = _libc("malloc_trim")
    if trim is not None:
        trim(ctypes.c_size_t(0))


def _set(parameter: int, value: int) -> bool:
    mallopt = _libc("mallopt")
    return mallopt is not None and bool(mallopt(parameter, value))


def _libc(name: str) -> "ctypes._NamedFuncPointer | None":
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
