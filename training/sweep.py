"""The refiner's starting level and number of steps, tried on validation songs (figure 2 of DiCoSe's first version):

    python -m training.sweep --model stemline-small --data rendered/val --sigma 0.003 0.01 0.03 0.1 --steps 1 2 4

Prints the mean SI-SDR_I of every pair and the best sigma_max of each number of steps; `training.export --sweep` takes
them from the JSON. What is chosen on a test set is no test result, so test splits are refused.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tyro
from rich import progress
from rich.console import Console

from pyserver.errors import StemlineError
from training.data.datasets import open_dataset
from training.data.pool import StemPool
from training.evaluate import finite, table
from training.scores import RATE_HZ, score_set, songs_of
from training.separate import local_model

DEFAULT_SIGMAS = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)


class TunesOnTest(StemlineError):
    """A setting was to be chosen on songs that are there to judge the choice."""

    reason = "TUNES_ON_TEST"

    def __init__(self, data: Path) -> None:
        super().__init__(f"{data} holds test songs; choose on validation data, or say --allow-test", data=data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    data: Path
    """Validation songs, in any layout of `training.data.datasets`."""
    model: str = "stemline-small"
    """A name of the catalogue, or a folder that holds a model."""
    sigma: tuple[float, ...] = DEFAULT_SIGMAS
    """Starting levels, in the unit of the waveform at the card's `reference_rms`."""
    steps: tuple[int, ...] = (1, 2, 4)
    limit: int | None = None
    """Only the first so many songs."""
    seconds: float | None = None
    """Only so much from the middle of each song."""
    rate_hz: int = RATE_HZ
    """Rate of the songs when they are separated and judged."""
    seed: int = 0
    """Of the refiner's noise, the same at every point."""
    json: Path | None = None
    """Write all figures here."""
    plot: Path | None = None
    """Draw the curves into this file (.png, .svg or .pdf). Needs `.[eval]`."""
    allow_test: tyro.conf.FlagCreatePairsOff[bool] = False
    """Sweep over a test split all the same, to look at, not to choose."""

    def __post_init__(self) -> None:
        if not self.sigma or min(self.sigma) <= 0 or not self.steps or min(self.steps) < 1:
            raise ValueError("sigma_max must be above 0, and steps at least 1 (the separator is always compared with)")


@dataclass(frozen=True, slots=True)
class Sweep:
    """SI-SDR_I by stem, with `mean`: of the separator, and by steps and sigma_max."""

    model: str
    data: str
    songs: int
    separator: dict[str, float]
    points: dict[int, dict[float, dict[str, float]]] = field(default_factory=dict)

    def best(self) -> dict[int, float]:
        """The sigma_max with the highest mean, by steps; of equals the smallest."""
        return {
            steps: max(sorted(by_sigma), key=lambda sigma: by_sigma[sigma]["mean"])
            for steps, by_sigma in self.points.items()
        }

    def rows(self) -> Mapping[str, Mapping[str, float]]:
        rows = {"separator": self.separator}
        for steps, by_sigma in self.points.items():
            rows |= {f"T = {steps}, sigma_max {sigma:g}": figures for sigma, figures in by_sigma.items()}
        return rows

    def document(self) -> dict[str, Any]:
        points = [
            {"steps": steps, "sigma_max": sigma, "si_sdr_i": finite(figures)}
            for steps, by_sigma in self.points.items()
            for sigma, figures in by_sigma.items()
        ]
        head = {"model": self.model, "data": self.data, "songs": self.songs}
        best = {str(steps): sigma for steps, sigma in self.best().items()}
        return {**head, "separator": finite(self.separator), "points": points, "best": best}


def holds_test_songs(data: Path) -> bool:
    """By the folder's name, and by what the data set's layout says of its songs."""
    splits = {data.resolve().name.lower(), *(song.split for song in open_dataset(data).songs())}
    return any(split.startswith("test") for split in splits)


def sweep(arguments: Arguments) -> Sweep:
    """Raises TunesOnTest, ModelHasNoRefiner, and what the catalogue and the data sets raise."""
    if holds_test_songs(arguments.data) and not arguments.allow_test:
        raise TunesOnTest(arguments.data)
    model = local_model(arguments.model)
    pool = StemPool(arguments.data, model.card.stems, arguments.rate_hz, arguments.limit)
    points = {(steps, sigma) for steps in arguments.steps for sigma in arguments.sigma}
    separators = {
        f"{steps} {sigma}": model.separator(steps, arguments.seed, arguments.rate_hz, sigma)
        for steps, sigma in sorted(points)
    }
    separators["separator"] = model.separator(0, arguments.seed, arguments.rate_hz)
    songs = progress.track(
        songs_of(pool, arguments.seconds),
        f"{len(points)} settings",
        len(pool.tracks),
        console=Console(stderr=True),
        transient=True,
    )
    found = score_set(separators, songs, model.card.stems, rate_hz=arguments.rate_hz)
    figures = {label: scores.summary()["si_sdr_i"] for label, scores in found.items()}
    result = Sweep(model.card.name, arguments.data.resolve().name, len(pool.tracks), figures["separator"])
    for steps, sigma in sorted(points):
        result.points.setdefault(steps, {})[sigma] = figures[f"{steps} {sigma}"]
    return result


def main(arguments: Arguments) -> None:
    try:
        result = sweep(arguments)
    except StemlineError as error:
        raise SystemExit(str(error)) from error
    print(f"SI-SDR improvement in dB, {result.model} on {result.data}, silent targets left out")
    print(table(result.rows()))
    for steps, sigma in result.best().items():
        gain = result.points[steps][sigma]["mean"] - result.separator["mean"]
        print(f"best with T = {steps}: sigma_max {sigma:g}, {gain:+.2f} dB over the separator")
    if arguments.json:
        arguments.json.write_text(json.dumps(result.document(), indent=1) + "\n")
    if arguments.plot:
        from training.plots import sweep_curves

        curves = {
            steps: {sigma: figures["mean"] for sigma, figures in by_sigma.items()}
            for steps, by_sigma in result.points.items()
        }
        sweep_curves(curves, result.separator["mean"], f"{result.model} on {result.data}", arguments.plot)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
