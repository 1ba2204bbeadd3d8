"""Python's collector of reference cycles, kept from stopping a process for long."""

import gc


def pass_over_what_is_imported() -> None:
    """From now on the collector leaves alone all objects that there are: modules and classes, which stay anyway.

    It stops the process while it looks at every object. Of an engine's, nearly all belong to torch, and looking at
    them takes 80 ms: longer than a live window may be late.
    """
    gc.freeze()
