"""Memory that was used for audio goes back to the system."""

import ctypes
import sys

_MMAP_THRESHOLD = -3  # of mallopt, in bytes
_LARGE_BYTES = 1 << 20


def give_back_large_blocks() -> None:
    """From now on a large block of this process is returned to the system when it is freed, whichever thread had it.

    glibc does so too until the first of them is freed: then it takes blocks of that size (up to 32 MiB) for common
    and cuts them from the heap of the thread that asks, of which there are many. Each heap keeps what its largest
    window took, in pieces that no other can use, and grows as windows of two songs, results and requests are mixed.
    Does nothing where the C library is another one. Not for the engine: networks ask for such blocks at every layer.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_MMAP_THRESHOLD, _LARGE_BYTES)
