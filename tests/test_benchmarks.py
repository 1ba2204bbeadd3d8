"""The benchmarks of the server run, and print the rows they promise. What they measure is for a quiet machine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("command", "rows"),
    [
        (
            ("benchmarks.transport", "--minutes", "0.02", "--sessions", "2", "--song-s", "2"),
            ("a live session of 2, hop", "CPU time", "late", "hop 100 ms", "a song up", "its stems down"),
        ),
        (("benchmarks.sessions", "--few", "3", "--many", "9"), ("memory", "threads", "open files")),
        (
            ("benchmarks.gpu", "--tiny", "--runs", "1"),
            ("unet, separator + 1 step, 4 stems", "bs_roformer", "eager fp32", "long window", "live window", "CUDA"),
        ),
        (("benchmarks.start", "--runs", "1"), ("to SERVING", "first stems", "idle with the shipped model")),
    ],
)
@pytest.mark.timeout(240)
def test_a_benchmark_prints_its_rows(command: tuple[str, ...], rows: tuple[str, ...]) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    environment.pop("STEMLINE_MODELS", None)
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=REPOSITORY, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    for row in rows:
        assert row in done.stdout
