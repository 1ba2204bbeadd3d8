"""Several processes are one run: `torchrun` on the real command line, against one process with the same batch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

EXPERIMENT = "dicose_bsrf_musdb_diffusion"  # trains one stem's mask head in a step: not every process uses every weight


def command(songs: Path, out: Path, experiment: str, *more: object) -> list[str]:
    where = ["--experiment", experiment, "--smoke", "--data", songs, "--out", out, "--device", "cpu", "--threads", 1]
    return ["-m", "training.train", *map(str, where), "--no-tensorboard", *map(str, more)]


def run(*arguments: str) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr


@pytest.mark.timeout(280)
def test_two_processes_train_what_one_trains(mini_set: Path, tmp_path: Path) -> None:
    run(*command(mini_set, tmp_path / "separator", "dicose_bsrf_musdb_separator", "--steps", 1))
    one = command(mini_set, tmp_path / "one", EXPERIMENT, "--separator", tmp_path / "separator")
    two = command(mini_set, tmp_path / "two", EXPERIMENT, "--separator", tmp_path / "separator")
    run(*one)
    run("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *two)
    states = [torch.load(tmp_path / name / "state.pt", weights_only=True) for name in ("one", "two")]
    for key, value in states[0]["trained"].items():
        assert torch.allclose(value, states[1]["trained"][key], rtol=1e-4, atol=1e-6), key
    start = load_file(tmp_path / "separator" / "best.safetensors")
    assert any(not torch.equal(value, states[0]["trained"][key]) for key, value in start.items())
    figures = [json.loads((tmp_path / name / "metrics.jsonl").read_text().splitlines()[-1]) for name in ("one", "two")]
    assert figures[0]["validation"] == pytest.approx(figures[1]["validation"], abs=1e-2)
