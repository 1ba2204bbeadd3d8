"""Trains one stage:

    python -m training.train --experiment stemline_small_separator --data rendered --out runs/separator

Stopped by a signal it saves and leaves; the same command goes on where it was. `torchrun --nproc-per-node 3 -m
training.train ...` does the same on several GPUs, or processes. `--list` names all experiments.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from torch import Tensor

from pyserver.allocator import keep_freed_memory
from training.board import Board, NoBoard, TensorBoard
from training.data.datasets import DatasetError, open_dataset
from training.data.pool import StemPool, batches
from training.experiments.experiment import Experiment, MissingRun, Sources
from training.experiments.registry import EXPERIMENTS, UnknownExperiment, experiment
from training.loop import Precision, TrainConfig, train
from training.parallel import World, join, leave
from training.runs import Run, RunMismatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    name: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="EXPERIMENT")] = None
    experiment: str | None = None
    """The same, by its name on the command line."""
    list: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Name all experiments and leave."""
    data: Path | None = None
    """What `python -m training.data.render` writes, or a data set in a published layout (docs/training.md)."""
    out: Path | None = None
    """The run's folder."""
    validation: Path | None = None
    """Songs to validate with, where they are not the data's own split `val`."""
    separator: Path | None = None
    """Run (or model folder) of the separator; refiners and controls need it."""
    refiner: Path | None = None
    """Run (or model folder) of the diffusion refiner; distillation needs it."""
    smoke: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """The same code in seconds: a tiny network, a few steps on short crops."""
    steps: int | None = None
    """Instead of the experiment's own; so are the next five."""
    batch_size: int | None = None
    micro_batch: int | None = None
    precision: Literal["fp32", "bf16"] | None = None
    checkpoint_activations: bool | None = None
    """Less memory, a third more time."""
    compile: bool | None = None
    """Compile the network's blocks first: minutes, then faster."""
    device: str = ""
    """cpu or cuda; a GPU if there is one."""
    threads: int = 0
    tensorboard: bool = True
    """Curves, audio and spectrograms in the run's folder, if TensorBoard is installed."""


def chosen(arguments: Arguments) -> Experiment:
    """The experiment with what the command line changes. Raises UnknownExperiment and ValueError."""
    found = experiment(arguments.experiment or arguments.name or "")
    if arguments.smoke:
        found = found.smoke()
    names = ("steps", "batch_size", "micro_batch", "checkpoint_activations", "compile")
    changes: dict[str, Any] = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    if arguments.precision is not None:
        changes["precision"] = Precision(arguments.precision)
    return replace(found, train=replace(found.train, threads=arguments.threads, **changes))


def items_of(world: World, config: TrainConfig) -> range:
    """This process's share of a batch."""
    share = config.batch_size // world.size
    return range(world.rank * share, (world.rank + 1) * share)


def board_of(arguments: Arguments, folder: Path, world: World, first_step: int) -> Board:
    if not world.first or not arguments.tensorboard:
        return NoBoard()
    try:
        return TensorBoard(folder, first_step)
    except ModuleNotFoundError:
        print("TensorBoard is not installed: curves are in metrics.jsonl only")
        return NoBoard()


def run_stage(arguments: Arguments, world: World) -> int:
    """Trains; the step reached. Raises what stands in the way of it: DatasetError, MissingRun, RunMismatch, ..."""
    chosen_experiment = chosen(arguments)
    config = chosen_experiment.train
    config.items_at_once(world.size)
    if arguments.data is None or arguments.out is None:
        raise ValueError("--data and --out are needed")
    validation = arguments.validation or arguments.data / "val"
    open_dataset(validation)  # before hours of music are decoded
    with world.device:
        training = arguments.data / "train"
        sources = Sources(
            validation=validation, training=training, separator=arguments.separator, refiner=arguments.refiner
        )
        stage, average = chosen_experiment.build(sources)
    pool = StemPool(training, chosen_experiment.stems, chosen_experiment.sample_rate_hz)
    if world.first:
        print(f"{chosen_experiment.name}: {len(pool.tracks)} songs, {pool.seconds / 60:.0f} minutes", flush=True)

    def batches_from(step: int) -> Iterator[Tensor]:
        return map(torch.from_numpy, batches(pool, config.crop, items_of(world, config), config.seed, step))

    run = Run(arguments.out, config, chosen_experiment.about(), writes=world.first)
    reached = train(stage, average, batches_from, run, world, board_of(arguments, arguments.out, world, run.step()))
    if world.first:
        print(f"{chosen_experiment.name}: step {reached} of {config.steps}, in {arguments.out}", flush=True)
    return reached


def main(arguments: Arguments) -> None:
    if arguments.list:
        print("\n".join(EXPERIMENTS))
        return
    torch.set_float32_matmul_precision("high")  # what fp32 is left on a GPU may use its tensor cores
    world = join(arguments.device)
    if world.device.type == "cpu":
        keep_freed_memory()
    try:
        run_stage(arguments, world)
    except (DatasetError, MissingRun, RunMismatch, UnknownExperiment, ValueError) as error:
        raise SystemExit(str(error)) from error
    finally:
        leave(world)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
