"""How well a model separates, by stem, on any data set or split of one: a table, JSON and plots.

    python -m training.evaluate --model stemline-small --data rendered/test-song rendered/test-font --steps 0 1

SI-SDR_I by both protocols is the default; `--metrics bss` gives SDR, SIR and SAR, `--metrics museval` its own of these.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import tyro
from rich import progress
from rich.console import Console

from pyserver.errors import StemlineError
from training.data.pool import StemPool
from training.scores import (
    METRICS,
    RATE_HZ,
    Audio,
    SetScores,
    evaluate_folder,
    mean_scores,
    score_set,
    score_song,
    songs_of,
)

__all__ = ["Arguments", "evaluate", "evaluate_folder", "mean_scores", "score_song", "table"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    data: tuple[Path, ...]
    """Data sets or splits of them, in any layout of `training.data.datasets`."""
    model: str = "stemline-small"
    """A name of the catalogue, or a folder that holds a model."""
    steps: tuple[int, ...] = (0, 1)
    """Refiner steps to compare; 0 is the separator alone."""
    metrics: tuple[Literal["si-sdr-i", "published", "bss", "museval"], ...] = ("si-sdr-i", "published")
    """bss (SDR, ISR, SIR, SAR) takes seconds a song; museval, the second opinion on it, minutes, and `.[eval]`."""
    limit: int | None = None
    """Only the first so many songs of each set."""
    seconds: float | None = None
    """Only so much from the middle of each song."""
    rate_hz: int = RATE_HZ
    """Rate of the songs when they are separated and judged; published figures are at their model's own rate."""
    seed: int = 0
    """Of the refiner's noise."""
    json: Path | None = None
    """Write all figures here, by song too."""
    plots: Path | None = None
    """Write pictures into this folder: figures by song, and spectrograms of one song. Needs `.[eval]`."""
    plot_song: str = ""
    """Which song's spectrograms; default: of the first set, the song whose stems sound most."""


@dataclass(slots=True)
class Report:
    """Figures of one model: by set and refiner steps."""

    model: str
    weights_sha256: str
    settings: dict[str, Any]
    sets: dict[str, dict[int, SetScores]] = field(default_factory=dict)
    minutes: dict[str, float] = field(default_factory=dict)

    def rows(self, metric: str) -> dict[str, dict[str, float]]:
        return {
            f"{name}, {steps} steps": scores.summary()[metric]
            for name, by_steps in self.sets.items()
            for steps, scores in by_steps.items()
        }

    def metrics(self) -> list[str]:
        scores = next(iter(next(iter(self.sets.values())).values()))
        return list(next(iter(scores.songs.values())))

    def document(self) -> dict[str, Any]:
        """JSON; a figure that does not exist, as of a stem that never sounds, is null."""
        sets = {
            name: {
                "songs": len(next(iter(by_steps.values())).songs),
                "minutes": round(self.minutes[name], 1),
                "steps": {str(steps): scores.summary() for steps, scores in by_steps.items()},
                "by_song": {str(steps): scores.by_song() for steps, scores in by_steps.items()},
            }
            for name, by_steps in self.sets.items()
        }
        titles = {key: METRICS[key].title for key in self.metrics()}
        head = {"model": self.model, "weights_sha256": self.weights_sha256, **self.settings, "metrics": titles}
        return {**head, "sets": finite(sets)}


def finite(value: Any) -> Any:
    """NaN, which JSON does not know, becomes null; figures get three decimals."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, float):
        return round(value, 3) if math.isfinite(value) else None
    return value


def evaluate(arguments: Arguments) -> Report:
    """Raises what the catalogue and the data sets raise."""
    from training.separate import local_model

    model = local_model(arguments.model)
    separators = {str(steps): model.separator(steps, arguments.seed, arguments.rate_hz) for steps in arguments.steps}
    settings = {"rate_hz": arguments.rate_hz, "seed": arguments.seed, "seconds_of_each_song": arguments.seconds}
    report = Report(model.card.name, model.card.weights_sha256, settings)
    for folder, name in zip(arguments.data, set_names(arguments.data), strict=True):
        pool = StemPool(folder, model.card.stems, arguments.rate_hz, arguments.limit)
        songs = progress.track(
            songs_of(pool, arguments.seconds), name, len(pool.tracks), console=Console(stderr=True), transient=True
        )
        found = score_set(separators, songs, model.card.stems, arguments.metrics, arguments.rate_hz)
        report.sets[name] = {int(steps): scores for steps, scores in found.items()}
        lengths = [stems_SCN.shape[-1] / arguments.rate_hz for _, stems_SCN in songs_of(pool, arguments.seconds)]
        report.minutes[name] = sum(lengths) / 60
    if arguments.plots:
        draw(arguments, report, separators, model.card.stems)
    return report


def set_names(folders: Sequence[Path]) -> list[str]:
    """The folders' last names, or their whole paths where those are not unique."""
    short = [folder.resolve().name for folder in folders]
    return short if len(set(short)) == len(short) else [str(folder) for folder in folders]


def draw(
    arguments: Arguments, report: Report, separators: Mapping[str, Callable[[Audio], Audio]], stems: Sequence[str]
) -> None:
    """Writes `by-song-METRIC.png` and `spectrograms.png`."""
    from training.plots import distributions, song_spectrograms

    assert arguments.plots is not None
    arguments.plots.mkdir(parents=True, exist_ok=True)
    for metric in report.metrics():
        by_row = {
            f"{name}, {steps} steps": [values[metric] for values in scores.by_song().values()]
            for name, by_steps in report.sets.items()
            for steps, scores in by_steps.items()
        }
        distributions(by_row, stems, METRICS[metric].title, arguments.plots / f"by-song-{metric}.png")
    pool = StemPool(arguments.data[0], stems, arguments.rate_hz, arguments.limit)
    path = arguments.plots / "spectrograms.png"
    song_spectrograms(pool, separators, arguments.plot_song, path, arguments.seconds or 12.0)


def table(rows: Mapping[str, Mapping[str, float]]) -> str:
    columns = list(next(iter(rows.values())))
    width = max(len(name) for name in rows)
    lines = [" ".join([" " * width, *(f"{column:>8}" for column in columns)])]
    lines += [
        " ".join([f"{name:<{width}}", *(f"{row[column]:8.2f}" for column in columns)]) for name, row in rows.items()
    ]
    return "\n".join(lines)


def main(arguments: Arguments) -> None:
    try:
        report = evaluate(arguments)
    except StemlineError as error:
        raise SystemExit(str(error)) from error
    except ImportError as error:
        raise SystemExit(f"{error}: pip install -e '.[eval]'") from error
    for metric in report.metrics():
        print(f"{METRICS[metric].title}; {report.model}")
        print(table(report.rows(metric)), end="\n\n")
    if arguments.json:
        arguments.json.write_text(json.dumps(report.document(), indent=1) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Arguments))
