"""Trains one stage of an experiment:

    python -m training.train stemline_small_separator --data rendered --out runs/separator

Stopped by a signal it saves and leaves; the same command goes on where it was.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
import tyro
from torch import Tensor

from training.data.datasets import DatasetError, open_dataset
from training.data.pool import StemPool, batches
from training.experiments.stemline_small import EXPERIMENTS, STEMS, build_stage
from training.loop import Run, train


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    experiment: Annotated[str, tyro.conf.Positional]
    data: Path
    """What `python -m training.data.render` writes, or a data set in a published layout (docs/training.md)."""
    out: Path
    validation: Path | None = None
    """Songs to validate with, where they are not the data's own split `val`."""
    separator: Path | None = None
    """Run of the separator; the refiner's stages need it."""
    refiner: Path | None = None
    """Run of the diffusion refiner; distillation needs it."""
    steps: int | None = None
    """Instead of the experiment's own."""
    threads: int = 0


def main(arguments: Arguments) -> None:
    if arguments.experiment not in EXPERIMENTS:
        raise SystemExit(f"no experiment {arguments.experiment!r}; there are {', '.join(EXPERIMENTS)}")
    config = EXPERIMENTS[arguments.experiment]()
    config = replace(config, steps=arguments.steps or config.steps, threads=arguments.threads)
    validation = arguments.validation or arguments.data / "val"
    try:
        open_dataset(validation)  # before hours of music are decoded
        pool = StemPool(arguments.data / "train", STEMS)
    except DatasetError as error:
        raise SystemExit(str(error)) from error
    print(f"{config.stage}: {len(pool.tracks)} songs, {pool.seconds / 60:.0f} minutes", flush=True)
    stage, average = build_stage(config, validation, arguments.separator, arguments.refiner)

    def batches_from(step: int) -> Iterator[Tensor]:
        return map(torch.from_numpy, batches(pool, config.crop, config.batch_size, config.seed, step))

    reached = train(stage, average, batches_from, Run(arguments.out, config))
    print(f"{config.stage}: step {reached} of {config.steps}, in {arguments.out}")


if __name__ == "__main__":
    main(tyro.cli(Arguments))
