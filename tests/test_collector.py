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

_ENGINE = """
import gc
from pyserver.engine import worker
from pyserver.engine.pipe import Pipe
from pyserver.engine.process import EngineConfig

worker._serve = lambda *_: print(gc.get_freeze_count())
worker.main(Pipe.pair()[1], EngineConfig(device="cpu", threads=1))
"""


def test_an_engine_passes_over_all_of_torch_once_it_serves() -> None:
    said = subprocess.run([sys.executable, "-c", _ENGINE], check=True, capture_output=True, text=True, timeout=60)
    assert int(said.stdout) > 50_000


def test_a_collection_looks_only_at_what_was_made_since() -> None:
    subprocess.run([sys.executable, "-c", _CHECK], check=True, timeout=60)
