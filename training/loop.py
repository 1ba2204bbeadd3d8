"""One loop for every stage: batches in, checkpoint + config JSON + metrics out, exact resume.

A stage is a `Stage`: it says what is trained and what the loss of a batch is. Everything random is drawn from
(seed, step, micro-batch), so a run that was stopped goes on as if it had not been, and a run is the same whether one
process makes the micro-batches of a step one after another or several make them at once.
"""

import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import FrameType

import numpy as np
import torch
from torch import Tensor, nn

from training.blocks import checkpoint_activations, compile_blocks
from training.board import Board, NoBoard, Panels
from training.data.augment import AugmentConfig
from training.data.effects import EffectsConfig
from training.data.pool import CropConfig
from training.optimisers import OptimiserConfig, build_optimiser, clip_gradients
from training.parallel import World, sum_gradients
from training.runs import Run, RunMismatch

__all__ = ["Precision", "Run", "RunMismatch", "Stage", "TrainConfig", "train"]


class Precision(StrEnum):
    FP32 = "fp32"
    BF16 = "bf16"  # matrix products and convolutions only; weights, sums and spectra stay fp32


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """A complete run. `steps` may be raised or lowered when it is resumed; all else must stay.

    `batch_size` is that of all processes together; each computes `micro_batch` items at a time (0: its whole share).
    """

    stage: str
    steps: int
    batch_size: int
    crop: CropConfig
    augment: AugmentConfig | EffectsConfig = field(default_factory=AugmentConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    seed: int = 0
    save_every: int = 250
    validate_every: int = 500
    threads: int = 0  # 0: torch's own choice
    micro_batch: int = 0
    precision: Precision = Precision.FP32
    checkpoint_activations: bool = False
    compile: bool = False

    def items_at_once(self, processes: int = 1) -> int:
        """Items of a micro-batch. Raises ValueError where they cannot be dealt out evenly."""
        share, left = divmod(self.batch_size, processes)
        items = min(self.micro_batch or share, share)
        if left or not items or share % items:
            raise ValueError(
                f"{processes} processes cannot share a batch of {self.batch_size} in micro-batches of {items or 1}"
            )
        return items


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """`trained` gets gradients and an average, which `after_step` sees; `loss(batch, generator)` may read anything.

    What is validated and used is the average, or the trained network itself. `validate` gives figures in dB, the one
    called "mean" decides which weights are best; `panels` gives audio to listen to. `blocks` are what activation
    checkpointing and compilation work on.
    """

    trained: nn.Module
    loss: Callable[[Tensor, torch.Generator], Tensor]
    validate: Callable[[nn.Module], Mapping[str, float]]
    after_step: Callable[[nn.Module], None] = lambda average: None
    panels: Callable[[nn.Module], Panels] | None = None
    uses_average: bool = True
    blocks: tuple[type[nn.Module], ...] = ()


def step_seed(seed: int, step: int, micro_batch: int = 0) -> int:
    """63 mixed bits: torch's CPU generator reads only the lower 32 of a seed."""
    return int(np.random.SeedSequence((seed, step, micro_batch)).generate_state(1, np.uint64)[0] >> np.uint64(1))


def step_generator(seed: int, step: int, micro_batch: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(step_seed(seed, step, micro_batch))


def update_average(average: nn.Module, trained: nn.Module, decay: float) -> None:
    """θ⁻ ← μθ⁻ + (1 - μ)θ, parameters only."""
    with torch.no_grad():
        for mean, value in zip(average.parameters(), trained.parameters(), strict=True):
            mean.lerp_(value, 1 - decay)


class _StopRequest:
    """SIGTERM and SIGINT finish the step, save and leave."""

    def __init__(self) -> None:
        self.asked = False
        self.before = {number: signal.signal(number, self._ask) for number in (signal.SIGTERM, signal.SIGINT)}

    def forget(self) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True


def add_up_gradients(stage: Stage, batch: Tensor, config: TrainConfig, world: World, step: int) -> Tensor:
    """Gradients of this process's share of a step; its part of the mean loss, a scalar."""
    parts = torch.split(batch, config.items_at_once(world.size))
    share = 1 / (len(parts) * world.size)
    total = torch.zeros((), device=world.device)
    for number, part in enumerate(parts, start=world.rank * len(parts)):
        torch.manual_seed(step_seed(config.seed, step, number))  # dropout knows no generator but the global one
        with torch.autocast(world.device.type, torch.bfloat16, enabled=config.precision is Precision.BF16):
            loss = stage.loss(part.to(world.device), step_generator(config.seed, step, number))
        (loss * share).backward()  # type: ignore[no-untyped-call]
        total += loss.detach().float() * share
    return total


def train(
    stage: Stage,
    average: nn.Module,
    batches_from: Callable[[int], Iterator[Tensor]],
    run: Run,
    world: World | None = None,
    board: Board | None = None,
) -> int:
    """Trains until `config.steps` or a signal; gives the step reached. `average` starts as a copy of the weights.

    `batches_from(step)` gives this process's items of every step from there on. Raises FloatingPointError where the
    loss is not finite, and RunMismatch where the run's folder holds another run.
    """
    config, stop, world, board = run.config, _StopRequest(), world or World(), board or NoBoard()
    recipe = config.optimiser
    config.items_at_once(world.size)
    if config.threads:
        torch.set_num_threads(config.threads)
    weights = [value for value in stage.trained.parameters() if value.requires_grad]
    optimiser = build_optimiser(stage.trained, recipe)
    first = step = run.resume(stage, average, optimiser)
    if config.checkpoint_activations:
        checkpoint_activations(stage.trained, stage.blocks)
    if config.compile:
        compile_blocks(stage.trained, stage.blocks)
    used = average if stage.uses_average else stage.trained
    began, running = time.monotonic(), math.nan

    def validate() -> None:
        due = step and (step % config.validate_every == 0 or step >= config.steps)
        if world.first and due and not run.validated(step):
            figures = dict(stage.validate(used))
            run.keep_best(step, figures.get("mean", -math.inf), used)
            run.log(step=step, validation=figures)
            board.figures(step, {f"validation/{name}": value for name, value in figures.items()})
            if stage.panels is not None:
                board.panels(step, stage.panels(used))

    validate()  # what a run that was stopped right after a save still owes
    for batch in batches_from(first):
        if step >= config.steps:
            break
        optimiser.set_rate(recipe.rate_at(step, config.steps))
        optimiser.zero_grad()
        mine = add_up_gradients(stage, batch, config, world, step)
        loss, asked = world.summed(torch.stack([mine, mine.new_tensor(float(stop.asked))])).tolist()
        if not math.isfinite(loss):
            raise FloatingPointError(f"loss is {loss} at step {step}")
        sum_gradients(weights, world)
        norm = clip_gradients(weights, recipe.clip_norm)
        optimiser.step()
        update_average(average, stage.trained, recipe.ema_decay_at(step))
        stage.after_step(average)
        step += 1
        running = loss if math.isnan(running) else 0.98 * running + 0.02 * loss
        if step % 50 == 0:
            speed = (step - first) / (time.monotonic() - began)
            row = {"loss": round(running, 4), "norm": round(float(norm), 3), "steps_per_s": round(speed, 3)}
            run.log(step=step, **row)
            board.figures(step, {**row, "rate": recipe.rate_at(step - 1, config.steps)})
        if asked or step % config.save_every == 0 or step >= config.steps:
            run.save(step, stage, average, optimiser)
        if asked:
            break
        validate()
    board.close()
    stop.forget()
    return step
