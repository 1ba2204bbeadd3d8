"""How the C library hands out the memory of large tensors on a CPU."""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # mallopt(3)


def keep_freed_memory() -> bool:
    """Freed tensors are kept for the next ones: whether that can be had, which is so with glibc.

    By default it gives large blocks back at once, and the system hands out zeroed pages again, in every operation.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, -1))
