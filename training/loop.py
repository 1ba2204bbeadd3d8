"""One loop for every stage: batches in, checkpoint + config JSON + metrics out, exact resume.

A stage is a `Stage`: it says what is trained and what the loss of a batch is. Everything random is drawn from
(seed, step), so a run that was stopped goes on as if it had not been.
"""

import json
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from training.data.augment import AugmentConfig
from training.data.pool import CropConfig
from training.optimisers import Optimiser, OptimiserConfig, build_optimiser


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """A complete run. `steps` may be raised or lowered when it is resumed; all else must stay."""

    stage: str
    steps: int
    batch_size: int
    crop: CropConfig
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    seed: int = 0
    save_every: int = 250
    validate_every: int = 500
    threads: int = 0  # 0: torch's own choice


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """`trained` gets gradients and an average, which `after_step` sees; `loss(batch, generator)` may read anything."""

    trained: nn.Module
    loss: Callable[[Tensor, torch.Generator], Tensor]
    validate: Callable[[nn.Module], dict[str, float]]
    after_step: Callable[[nn.Module], None] = lambda average: None


def step_seed(seed: int, step: int) -> int:
    return (seed << 32) + step


def step_generator(seed: int, step: int) -> torch.Generator:
    return torch.Generator().manual_seed(step_seed(seed, step))


class Run:
    """Files of one run: `state.pt` to resume, `average.safetensors` to use, `config.json`, `metrics.jsonl`."""

    def __init__(self, folder: Path, config: TrainConfig) -> None:
        self.folder, self.config = folder, config
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(asdict(config), indent=1))

    def log(self, **row: Any) -> None:
        with (self.folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")

    def save(self, step: int, stage: Stage, average: nn.Module, optimiser: Optimiser) -> None:
        # cloned, since a network may hold one tensor under several names and the format allows no sharing
        weights = {key: value.detach().clone() for key, value in average.state_dict().items()}
        save_file(weights, self._partial("average.safetensors"))
        state = {"step": step, "trained": stage.trained.state_dict(), "optimiser": optimiser.state_dict()}
        torch.save(state, self._partial("state.pt"))
        for name in ("average.safetensors", "state.pt"):
            self._partial(name).replace(self.folder / name)

    def resume(self, stage: Stage, average: nn.Module, optimiser: Optimiser) -> int:
        """The step to go on with; 0 for a new run."""
        if not (self.folder / "state.pt").exists():
            return 0
        state = torch.load(self.folder / "state.pt", weights_only=True)
        stage.trained.load_state_dict(state["trained"])
        optimiser.load_state_dict(state["optimiser"])
        average.load_state_dict(load_file(self.folder / "average.safetensors"))
        return int(state["step"])

    def _partial(self, name: str) -> Path:
        return self.folder / f"{name}.partial"


def update_average(average: nn.Module, trained: nn.Module, decay: float) -> None:
    """θ⁻ ← μθ⁻ + (1 - μ)θ, parameters only."""
    with torch.no_grad():
        for mean, value in zip(average.parameters(), trained.parameters(), strict=True):
            mean.lerp_(value, 1 - decay)


class _StopRequest:
    """SIGTERM and SIGINT finish the step, save and leave."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True


def train(stage: Stage, average: nn.Module, batches_from: Callable[[int], Iterator[Tensor]], run: Run) -> int:
    """Trains until `config.steps` or a signal; gives the step reached. `average` starts as a copy of the weights."""
    config, stop = run.config, _StopRequest()
    recipe = config.optimiser
    if config.threads:
        torch.set_num_threads(config.threads)
    weights = [value for value in stage.trained.parameters() if value.requires_grad]
    optimiser = build_optimiser(stage.trained, recipe)
    first = run.resume(stage, average, optimiser)
    began, running = time.monotonic(), 0.0
    step = first
    for step, batch in enumerate(batches_from(first), start=first):
        if step >= config.steps or stop.asked:
            break
        optimiser.set_rate(recipe.rate_at(step, config.steps))
        torch.manual_seed(step_seed(config.seed, step))  # dropout knows no generator but the global one
        loss = stage.loss(batch, step_generator(config.seed, step))
        if not loss.isfinite():
            raise FloatingPointError(f"loss is {loss.item()} at step {step}")
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(weights, recipe.clip_norm)
        optimiser.step()
        update_average(average, stage.trained, min(recipe.ema_decay, (step + 1) / (step + 10)))
        stage.after_step(average)
        running = loss.item() if step == first else 0.98 * running + 0.02 * loss.item()
        if (step + 1) % 50 == 0:
            speed = (step + 1 - first) / (time.monotonic() - began)
            run.log(step=step + 1, loss=round(running, 4), norm=round(float(norm), 3), steps_per_s=round(speed, 3))
        if (step + 1) % config.save_every == 0:
            run.save(step + 1, stage, average, optimiser)
        if (step + 1) % config.validate_every == 0:
            run.log(step=step + 1, validation=stage.validate(average))
    run.save(min(step, config.steps), stage, average, optimiser)
    run.log(step=step, validation=stage.validate(average))
    return step
