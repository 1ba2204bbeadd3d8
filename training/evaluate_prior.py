"""How well a joint prior separates, by posterior and by how it is sampled:

    python -m training.evaluate_prior --model models/msdm-small --songs rendered/val
    python -m training.evaluate_prior --model models/msdm-small --songs rendered/val \
      --solvers euler exponential --steps 1 2 4 8 16 32 60 150 --coefficients

Every posterior runs through the server's own pipeline and windows, at the model's rate and in mono. SI-SDR_I by MSDM's
protocol in dB, over chunks in which the stem sounds; the first row is the SI-SDR of the mixture itself, which is what
all others are the improvement on.
"""

import itertools
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro

from pyserver.audio.resample import resample_to
from pyserver.engine.messages import Audio, SeparationSettings
from pyserver.engine.pipeline import Pipeline
from pyserver.errors import StemlineError
from pyserver.models.card import ModelCard, PriorSettings
from training.cards import BadInput
from training.data.pool import StemPool
from training.metrics import audible_chunks, is_silent, si_sdr
from training.separate import LocalModel, local_model, song_separator
from training.validation import as_audio

POOL_RATE_HZ = 44100


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    model: str
    """A model of the catalogue, or the folder of one."""
    songs: Path
    """A folder of songs, such as the validation split."""
    limit: int = 4
    """The first so many songs."""
    seconds: float = 12.0
    """Of each song, from its middle; 0: all of it."""
    steps: tuple[int, ...] = ()
    """Instead of the card's own; so are the next five."""
    solvers: tuple[Literal["euler", "exponential"], ...] = ()
    churn: float | None = None
    corrections: int | None = None
    draws: int | None = None
    sigma_max: float | None = None
    constrained: tuple[str, ...] | None = None
    """Stems to constrain, one after the other; default: the card's, or the first."""
    coefficients: tuple[float, ...] = (0.75, 1.5)
    """Of the Gaussian posterior."""
    projected: bool = False
    """Also the posterior that bounds the denoised stems; always with the exponential solver."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of matrix products and convolutions; bf16 is for processors that have it."""
    seed: int = 0
    json: Path | None = None
    """Where to write the figures."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """A row of the table: the model with its settings changed, and how many steps it makes."""

    card: ModelCard
    steps: int

    @property
    def evaluations(self) -> int:
        """Of the network, for one window."""
        return self.card.evaluations(self.steps)


def samplings(card: ModelCard, arguments: Arguments) -> dict[str, Sampling]:
    """Every row of the table by its name. Raises BadInput for a model without a prior, or stems it has not."""
    settings = card.prior
    if settings is None:
        raise BadInput(f"{card.name} is no joint prior")
    asked = {name: getattr(arguments, name) for name in ("churn", "corrections", "draws", "sigma_max")}
    walk = replace(settings.separation, **{name: value for name, value in asked.items() if value is not None})
    solvers, steps = arguments.solvers or (walk.solver,), arguments.steps or (walk.default_steps,)
    found = {}
    for name, prior in posteriors(card, settings, arguments).items():
        fitting = ("exponential",) if prior.posterior == "projected" else solvers
        for solver, count in itertools.product(fitting, steps):
            varied = [solver] * (len(solvers) > 1) + [f"{count} steps"] * (len(steps) > 1)
            sampled = replace(prior, separation=replace(walk, solver=solver))
            found[", ".join([name, *varied])] = Sampling(replace(card, prior=sampled), count)
    return found


def posteriors(card: ModelCard, settings: PriorSettings, arguments: Arguments) -> dict[str, PriorSettings]:
    """Raises BadInput for stems that the model has not."""
    constrained = arguments.constrained
    if constrained is None:
        constrained = (settings.constrained_stem or card.stems[0],)
    strangers = [stem for stem in constrained if stem not in card.stems]
    if strangers:
        raise BadInput(f"{card.name} has no stem {strangers[0]}, only {', '.join(card.stems)}")
    dirac = {
        f"Dirac, {stem} constrained": replace(settings, posterior="dirac", constrained_stem=stem)
        for stem in constrained
    }
    gaussian = {
        f"Gaussian, {value:g} sigma": replace(settings, posterior="gaussian", constrained_stem="", coefficient=value)
        for value in arguments.coefficients
    }
    exponential = replace(settings.separation, solver="exponential")
    projected = replace(settings, separation=exponential, posterior="projected", constrained_stem="")
    return dirac | gaussian | ({"Projected": projected} if arguments.projected else {})


def songs_of(arguments: Arguments, card: ModelCard) -> Iterator[Audio]:
    """(S, 1, N) at the model's rate."""
    pool = StemPool(arguments.songs, card.stems, POOL_RATE_HZ, limit=arguments.limit)
    length = int(arguments.seconds * POOL_RATE_HZ)
    for track_SNC in pool.tracks:
        start = max(0, (track_SNC.shape[1] - length) // 2) if length else 0
        stems_SCN = as_audio(track_SNC[:, start : start + length if length else None], 1)
        samples = round(stems_SCN.shape[-1] * card.sample_rate_hz / POOL_RATE_HZ)
        yield resample_to(stems_SCN, POOL_RATE_HZ, card.sample_rate_hz, samples)


def figures(model: LocalModel, arguments: Arguments) -> Iterator[dict[str, dict[str, float]]]:
    """By row, by stem and on the mean, of the songs so far: after each of them. Raises BadInput."""
    rows = samplings(model.card, arguments)
    separators = {
        name: song_separator(
            Pipeline(model.network, row.card, model.device),
            row.card,
            SeparationSettings(row.steps, arguments.seed),
            row.card.sample_rate_hz,
        )
        for name, row in rows.items()
    }
    stems = model.card.stems
    found: dict[str, dict[str, list[float]]] = {name: {stem: [] for stem in stems} for name in ("mixture", *rows)}
    for truth_SCN in songs_of(arguments, model.card):
        mixture_CN = truth_SCN.sum(0)
        estimates = {name: separate(mixture_CN) for name, separate in separators.items()}
        for part in audible_chunks(truth_SCN, model.card.sample_rate_hz):
            for index, stem in enumerate(stems):
                truth = truth_SCN[index][:, part]
                if is_silent(truth):
                    continue
                before = si_sdr(mixture_CN[:, part], truth)
                found["mixture"][stem].append(before)
                for name, stems_SCN in estimates.items():
                    found[name][stem].append(si_sdr(stems_SCN[index][:, part], truth) - before)
        yield {name: _means(by_stem) for name, by_stem in found.items()}


def _means(by_stem: dict[str, list[float]]) -> dict[str, float]:
    means = {stem: float(np.mean(values)) for stem, values in by_stem.items() if values}
    return {**means, "mean": float(np.mean(list(means.values()))) if means else float("nan")}


def main(arguments: Arguments) -> None:
    try:
        model = local_model(arguments.model)
        sampled = samplings(model.card, arguments)
        rows: dict[str, dict[str, float]] = {}
        with torch.autocast(model.device.type, torch.bfloat16, enabled=arguments.precision == "bf16"):
            for count, rows in enumerate(figures(model, arguments), start=1):
                means = ", ".join(f"{name} {row['mean']:.2f}" for name, row in rows.items())
                print(f"{count} songs: {means}", file=sys.stderr, flush=True)
    except StemlineError as error:
        raise SystemExit(str(error)) from error
    if not rows:
        raise SystemExit(f"there are no songs in {arguments.songs}")
    evaluations = {name: row.evaluations for name, row in sampled.items()}
    _show(model.card, rows, evaluations)
    if arguments.json is not None:
        told = {"weights_sha256": model.card.weights_sha256, "evaluations": evaluations, "rows": rows}
        arguments.json.write_text(json.dumps(told, indent=1))


def _show(card: ModelCard, rows: dict[str, dict[str, float]], evaluations: dict[str, int]) -> None:
    print(f"{card.name}: SI-SDR of the mixture, then SI-SDR_I, in dB; evaluations of the network for a window")
    columns, width = (*card.stems, "mean"), max(map(len, rows)) + 1
    print(f"{'':{width}}" + "".join(f"{column:>9}" for column in columns) + f"{'evals':>7}")
    for name, row in rows.items():
        print(
            f"{name:{width}}"
            + "".join(f"{row[column]:9.2f}" if column in row else f"{'-':>9}" for column in columns)
            + f"{evaluations.get(name, ''):>7}"
        )


if __name__ == "__main__":
    main(tyro.cli(Arguments))
