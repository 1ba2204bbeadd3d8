"""What was used for windows does not stay with the process."""

import subprocess
import sys

import pytest

_WINDOWS = """
import threading
import numpy as np, psutil
from pyserver.allocator import give_back_large_blocks

give_back_large_blocks()
resident = psutil.Process().memory_info
kept = []

def windows():
    # As a server's worker threads do: large blocks of several sizes, and between them small things that stay.
    for turn in range(4):
        blocks = []
        for size in (3 << 20, 17 << 20, 3 << 20):
            blocks.append(np.ones(size, np.uint8))
            kept.append(bytes(50_000))

before = resident().rss
for _ in range(6):
    thread = threading.Thread(target=windows)
    thread.start()
    thread.join()
together = [threading.Thread(target=windows) for _ in range(6)]
for thread in together:
    thread.start()
for thread in together:
    thread.join()
print((resident().rss - before) >> 20)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is done, as nothing is kept")
def test_large_blocks_are_given_back_whichever_thread_had_them() -> None:
    left_mib = int(subprocess.check_output([sys.executable, "-c", _WINDOWS], text=True))
    assert left_mib < 16  # without give_back_large_blocks it is over 100
