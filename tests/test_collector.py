"""The collector of cycles leaves alone what is imported, and nothing else."""

import subprocess
import sys

_CHECK = """
import gc, weakref
import torch
from pyserver.collector import pass_over_what_is_imported

before = len(gc.get_objects())
pass_over_what_is_imported()
assert before > 50_000, before
assert len(gc.get_objects()) < before / 50, "a collection still looks at what was imported"

class Cycle:
    def __init__(self):
        self.me = self

gone = weakref.ref(Cycle())
gc.collect()
assert gone() is None
"""


def test_a_collection_looks_only_at_what_was_made_since() -> None:
    subprocess.run([sys.executable, "-c", _CHECK], check=True, timeout=60)
