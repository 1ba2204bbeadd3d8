"""Rho of a generative model's schedule, with Euler's and Heun's method, tried on validation songs:

    python -m training.sweep_rho --model released/diff-vs --data musdb18hq/val --rho 3 5 7 10 --steps 1 3 7

Prints the mean SI-SDR_I of every point beside its cost in network evaluations, and which method and rho are best with
the most steps (7 unless told); `training.export --sampler` takes them from the JSON. Diff-VS owes its 7 steps to such a
rho (arXiv 2604.01120); which values were tried, and on what, is not published.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import tyro
from rich import progress
from rich.console import Console

from pyserver.diffusion.cost import network_evaluations
from pyserver.engine.messages import SeparationSettings
from pyserver.engine.pipeline import Pipeline
from pyserver.errors import StemlineError
from pyserver.models.card import RefinerSettings
from pyserver.models.interface import GenerativeModel
from training.data.pool import StemPool
from training.evaluate import finite, table
from training.scores import RATE_HZ, score_set, songs_of
from training.separate import Separate, local_model, song_separator
from training.sweep import TunesOnTest, holds_test_songs

KINDS = {"euler": "edm", "heun": "heun"}


class NotGenerative(StemlineError):
    """The model starts from a separator's estimate: `training.sweep` finds its level."""

    reason = "NOT_GENERATIVE"

    def __init__(self, model: str) -> None:
        super().__init__(f"{model} does not sample from noise: sweep its starting level with training.sweep")


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    data: Path
    """Validation songs, in any layout of `training.data.datasets`."""
    model: str
    """A name of the catalogue, or a folder that holds a model."""
    rho: tuple[float, ...] = (1.0, 3.0, 5.0, 7.0, 10.0)
    steps: tuple[int, ...] = (1, 3, 7)
    sampler: tuple[Literal["euler", "heun"], ...] = ("euler", "heun")
    sigma_max: float | None = None
    """Instead of the card's."""
    limit: int | None = None
    """Only the first so many songs."""
    seconds: float | None = None
    """Only so much from the middle of each song."""
    seed: int = 0
    """Of the noise, the same at every point."""
    json: Path | None = None
    """Write all figures here."""
    allow_test: tyro.conf.FlagCreatePairsOff[bool] = False
    """Sweep over a test split all the same, to look at, not to choose."""

    def __post_init__(self) -> None:
        if not self.rho or min(self.rho) <= 0 or not self.steps or min(self.steps) < 1 or not self.sampler:
            raise ValueError("there must be a sampler, rho above 0, and steps from 1 on")


@dataclass(frozen=True, slots=True)
class Point:
    settings: RefinerSettings
    figures: dict[str, float] = field(default_factory=dict)

    @property
    def evaluations(self) -> int:
        return network_evaluations(self.settings.kind, self.settings.default_steps)

    @property
    def label(self) -> str:
        method = "Heun" if self.settings.kind == "heun" else "Euler"
        count = self.settings.default_steps
        return f"{method}, {count} steps ({self.evaluations} evaluations), rho {self.settings.rho:g}"


@dataclass(frozen=True, slots=True)
class RhoSweep:
    model: str
    data: str
    songs: int
    points: tuple[Point, ...]

    def best(self) -> Point:
        """Of the most steps the point with the highest mean; of equals the cheapest, then that of the smallest rho."""
        most = max(point.settings.default_steps for point in self.points)
        found = [point for point in self.points if point.settings.default_steps == most]
        return max(found, key=lambda point: (point.figures["mean"], -point.evaluations, -point.settings.rho))

    def document(self) -> dict[str, Any]:
        def settings(point: Point) -> dict[str, Any]:
            chosen, steps = point.settings, point.settings.default_steps
            own = {"kind": chosen.kind, "steps": steps, "evaluations": point.evaluations}
            return {**own, "rho": chosen.rho, "sigma_max": chosen.sigma_max[steps]}

        points = [{**settings(point), "si_sdr_i": finite(point.figures)} for point in self.points]
        head = {"model": self.model, "data": self.data, "songs": self.songs}
        return {**head, "points": points, "best": settings(self.best())}


def points_of(arguments: Arguments, card: RefinerSettings) -> list[RefinerSettings]:
    """Every distinct point: with one step rho has no part, and both methods are the same."""
    level = arguments.sigma_max or card.sigma_max_for(max(arguments.steps))
    found: dict[tuple[float | str, ...], RefinerSettings] = {}
    for steps in arguments.steps:
        for sampler in arguments.sampler:
            for rho in arguments.rho:
                key = (steps, sampler, rho) if steps > 1 else (steps,)
                settings = replace(card, kind=KINDS[sampler], default_steps=steps, sigma_max={steps: level}, rho=rho)
                found.setdefault(key, replace(settings, corrections=1, churn=0.0))
    return list(found.values())


def sweep(arguments: Arguments) -> RhoSweep:
    """Raises TunesOnTest, NotGenerative, and what the catalogue and the data sets raise."""
    if holds_test_songs(arguments.data) and not arguments.allow_test:
        raise TunesOnTest(arguments.data)
    model = local_model(arguments.model)
    if model.card.refiner is None or not isinstance(model.network, GenerativeModel):
        raise NotGenerative(model.card.name)
    points = tuple(Point(settings) for settings in points_of(arguments, model.card.refiner))

    def separator(settings: RefinerSettings) -> Separate:
        card = replace(model.card, refiner=settings)
        asked = SeparationSettings(refiner_steps=settings.default_steps, noise_seed=arguments.seed)
        return song_separator(Pipeline(model.network, card, model.device), card, asked, RATE_HZ)

    pool = StemPool(arguments.data, model.card.stems, RATE_HZ, arguments.limit)
    songs = progress.track(
        songs_of(pool, arguments.seconds),
        f"{len(points)} settings",
        len(pool.tracks),
        console=Console(stderr=True),
        transient=True,
    )
    separators = {point.label: separator(point.settings) for point in points}
    found = score_set(separators, songs, model.card.stems)
    for point in points:
        point.figures.update(found[point.label].summary()["si_sdr_i"])
    return RhoSweep(model.card.name, arguments.data.resolve().name, len(pool.tracks), points)


def main(arguments: Arguments) -> None:
    try:
        result = sweep(arguments)
    except StemlineError as error:
        raise SystemExit(str(error)) from error
    rows: Mapping[str, Mapping[str, float]] = {point.label: point.figures for point in result.points}
    print(f"SI-SDR improvement in dB, {result.model} on {result.data}, silent targets left out")
    print(table(rows))
    print(f"best: {result.best().label}")
    if arguments.json:
        arguments.json.write_text(json.dumps(result.document(), indent=1) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Arguments))
