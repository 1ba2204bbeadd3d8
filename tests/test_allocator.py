"""What one thread used for windows is there for the others, and for the next ones until it is given back."""

import subprocess
import sys

import pytest

_WINDOWS = """
import threading
import numpy as np, psutil
from pyserver.allocator import share_one_heap

share_one_heap()
resident = psutil.Process().memory_info

def window():
    # The first of them make large blocks common, which then come from the heap; a small one keeps each heap's end.
    for size in (3 << 20, 17 << 20, 3 << 20):
        np.ones(size, np.uint8)
    kept.append([np.ones(size, np.uint8) for size in (3 << 20, 17 << 20, 3 << 20)] + [bytes(50_000)])
    del kept[-1][:-1]

kept = []
before = resident().rss
go_on = threading.Event()
threads = []
for _ in range(8):
    # All of them live at the same time, but work one after the other.
    done = threading.Event()
    def work(done=done):
        window()
        done.set()
        go_on.wait()
    threads.append(threading.Thread(target=work))
    threads[-1].start()
    done.wait()
print((resident().rss - before) >> 20)
go_on.set()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is done")
def test_threads_use_the_same_memory_for_their_windows_one_after_the_other() -> None:
    more_mib = int(subprocess.check_output([sys.executable, "-c", _WINDOWS], text=True))
    assert more_mib < 60  # without share_one_heap: every thread's own


_KEPT = """
import numpy as np, psutil
from pyserver import allocator

resident = lambda: psutil.Process().memory_info().rss >> 20
allocator.keep_freed_memory()
before = resident()
blocks = [np.ones(50 << 20, np.uint8) for _ in range(4)]
bytes(100)
del blocks
print(resident() - before)
allocator.give_back_memory()
print(resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is done")
def test_freed_memory_is_kept_until_it_is_given_back() -> None:
    kept_mib, left_mib = map(int, subprocess.check_output([sys.executable, "-c", _KEPT], text=True).split())
    assert kept_mib > 150
    assert left_mib < 20
