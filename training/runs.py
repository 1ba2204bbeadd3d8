"""The files of one run, written so that a kill at any moment leaves nothing that a later run would trust wrongly.

`state.pt` alone decides where a run goes on. The weights to use lie beside it, each file whole by itself:
`average.safetensors` (or `trained.safetensors`, where the published networks are not averages) of the last save, and
`best.safetensors` of the best validation.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from training.optimisers import Optimiser

if TYPE_CHECKING:
    from training.loop import Stage, TrainConfig

STATE, CONFIG, METRICS, BEST = "state.pt", "config.json", "metrics.jsonl", "best.safetensors"
IDENTITY = ("stage", "architecture", "network", "stems", "sample_rate_hz", "channels")
"""What cannot change while a run goes on."""
FINISHED = (BEST, "trained.safetensors", "average.safetensors")


class RunMismatch(ValueError):
    """The folder holds something else than the run that was asked for. The message says what."""


def finished_weights(folder: Path) -> Path:
    """What a later stage or the export takes of a run: the best by validation, else the last saved.

    Raises RunMismatch if there is neither.
    """
    for name in FINISHED:
        if (folder / name).is_file():
            return folder / name
    raise RunMismatch(f"{folder} holds no weights of a run: none of {', '.join(FINISHED)}")


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """`write` fills a file beside `path`, which then takes its place at once."""
    partial = path.with_name(f"{path.name}.partial")
    write(partial)
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)


class Run:
    """The folder of a run. One that does not `write` only resumes: all processes of a run but the first."""

    def __init__(
        self, folder: Path, config: "TrainConfig", about: Mapping[str, Any] | None = None, *, writes: bool = True
    ) -> None:
        """Raises RunMismatch, before anything is written, where the folder holds a run of something else."""
        self.folder, self.config, self.writes = folder, config, writes
        settings = json.dumps({**asdict(config), **(about or {})}, indent=1, default=str)
        self._must_fit(json.loads(settings))
        if writes:
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(folder / CONFIG, lambda path: path.write_text(settings))

    def log(self, **row: Any) -> None:
        if self.writes:
            with (self.folder / METRICS).open("a") as file:
                file.write(json.dumps(row) + "\n")

    def save(self, step: int, stage: "Stage", average: nn.Module, optimiser: Optimiser) -> None:
        if not self.writes:
            return
        name = "average.safetensors" if stage.uses_average else "trained.safetensors"
        self._save_weights(name, average if stage.uses_average else stage.trained, {"step": str(step)})
        state = {
            "step": step,
            "trained": stage.trained.state_dict(),
            "average": average.state_dict(),
            "optimiser": optimiser.state_dict(),
        }
        write_whole(self.folder / STATE, lambda path: torch.save(state, path))

    def keep_best(self, step: int, score: float, weights: nn.Module) -> bool:
        """Keeps the weights if no earlier ones scored as well. The score lies in the file that it belongs to."""
        if not self.writes or not score > self.best_score():
            return False
        self._save_weights(BEST, weights, {"step": str(step), "score": repr(score)})
        return True

    def best_score(self) -> float:
        path = self.folder / BEST
        if not path.is_file():
            return float("-inf")
        with safe_open(path, "pt") as file:
            return float(file.metadata()["score"])

    def validated(self, step: int) -> bool:
        path = self.folder / METRICS
        lines = path.read_text().splitlines() if path.exists() else []
        return any(row["step"] == step and "validation" in row for row in map(json.loads, lines))

    def step(self) -> int:
        """The step at which the run would go on."""
        path = self.folder / STATE
        if not path.exists():
            return 0
        return int(torch.load(path, weights_only=True, map_location="meta", mmap=True)["step"])

    def resume(self, stage: "Stage", average: nn.Module, optimiser: Optimiser) -> int:
        """The step to go on with; 0 for a new run. Raises RunMismatch for a state of an earlier program."""
        path = self.folder / STATE
        if not path.exists():
            self._forget_after(0)
            return 0
        state = torch.load(path, weights_only=True, map_location="cpu")
        if "average" not in state:
            raise RunMismatch(f"{path} was written by a version of this program that cannot be gone on with")
        stage.trained.load_state_dict(state["trained"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        step = int(state["step"])
        self._forget_after(step)
        return step

    def _must_fit(self, settings: Mapping[str, Any]) -> None:
        if not (self.folder / STATE).exists():
            return
        before = json.loads((self.folder / CONFIG).read_text())
        for name in IDENTITY:
            if name in before and name in settings and before[name] != settings[name]:
                shown = f"{before[name]!r}, not {settings[name]!r}" if name != "network" else "of another size"
                raise RunMismatch(f"{self.folder} holds a run whose {name} is {shown}: choose another folder")

    def _forget_after(self, step: int) -> None:
        """Rows of steps that are made again, and one that was cut short, are dropped; before a first save, all is."""
        path = self.folder / METRICS
        if self.writes and step == 0:
            (self.folder / BEST).unlink(missing_ok=True)
        if not self.writes or not path.exists():
            return
        kept = []
        for line in path.read_text().splitlines(keepends=True):
            if line.endswith("\n") and json.loads(line)["step"] <= step:
                kept.append(line)
        write_whole(path, lambda partial: partial.write_text("".join(kept)))

    def _save_weights(self, name: str, module: nn.Module, metadata: dict[str, str]) -> None:
        # cloned, since a network may hold one tensor under several names and the format allows no sharing
        weights = {key: value.detach().clone().contiguous() for key, value in module.state_dict().items()}
        write_whole(self.folder / name, lambda path: save_file(weights, path, metadata))
