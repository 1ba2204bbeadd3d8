"""One heap for all threads of a process that passes audio on."""

import ctypes
import sys

_ARENA_MAX = -8  # of mallopt


def share_one_heap() -> None:
    """From now on threads of this process take memory from one heap, where glibc would give each thread one of its own.

    A window's blocks are of many MiB and wander: one thread reads it from the engine's pipe, another adds and writes
    it. Each heap would keep the most that its thread ever had in pieces that no other thread can use, and more so the
    longer songs are. To hand blocks back to the system at once would cost more than half of the server's time, in
    pages to be cleared. Does nothing where the C library is another one. To be called before threads are started.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_ARENA_MAX, 1)
