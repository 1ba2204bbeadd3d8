"""The README's pictures, from the folders of the runs and the model that came of them:

    python -m training.figures --runs runs/separator runs/diffusion runs/consistency \\
      --model stemline-small --data rendered/test-song --out docs/images

Writes `training-loss.png`, loss and validation of every run over its steps, and `training-spectrograms.png`, some
seconds of one song: mixture, truth, separator, refined. Needs `.[eval]`.
"""

from dataclasses import dataclass
from pathlib import Path

import tyro

from pyserver.errors import StemlineError
from training.data.pool import StemPool
from training.plots import loss_curves, song_spectrograms
from training.separate import local_model

LOSS, SPECTROGRAMS = "training-loss.png", "training-spectrograms.png"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    out: Path
    runs: tuple[Path, ...] = ()
    """Folders of runs, in the order in which they are to stand."""
    data: Path | None = None
    """The set that the song is of; without it there are no spectrograms."""
    model: str = "stemline-small"
    """A name of the catalogue, or a folder that holds a model."""
    song: str = ""
    """Its name in the set; default: the song whose stems sound most."""
    seconds: float = 12.0
    """So much from the middle of the song."""
    steps: int | None = None
    """Refiner steps; default: the card's."""


class NotARun(StemlineError):
    """A folder without a run's metrics."""

    reason = "NOT_A_RUN"


def draw(arguments: Arguments) -> list[Path]:
    """The pictures' paths. Raises NotARun, and what the catalogue and the data sets raise."""
    arguments.out.mkdir(parents=True, exist_ok=True)
    made = []
    for run in arguments.runs:
        if not (run / "metrics.jsonl").is_file():
            raise NotARun(f"{run} holds no metrics.jsonl of a run", run=run)
    if arguments.runs:
        made.append(arguments.out / LOSS)
        loss_curves({run.resolve().name: run for run in arguments.runs}, made[-1])
    if arguments.data is not None:
        model = local_model(arguments.model)
        steps = arguments.steps if arguments.steps is not None else model.card.default_steps
        separators = {str(count): model.separator(count) for count in sorted({0, steps})}
        made.append(arguments.out / SPECTROGRAMS)
        pool = StemPool(arguments.data, model.card.stems)
        song_spectrograms(pool, separators, arguments.song, made[-1], arguments.seconds)
    return made


def main(arguments: Arguments) -> None:
    try:
        draw(arguments)
    except StemlineError as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main(tyro.cli(Arguments))
