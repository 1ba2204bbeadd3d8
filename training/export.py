"""From finished runs to the files of a release: safetensors (in shards if asked for), card and checksums.

    python -m training.export --separator runs/separator --refiner runs/consistency --out released/stemline-small \\
      --data rendered/train --sweep sweep.json --shard-mb 16

The card's figures come from the evaluator: export, `training.evaluate --model released/stemline-small --json
figures.json`, and the same export again with `--quality figures.json`. Figures of other weights are refused.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from torch import nn

from pyserver.errors import StemlineError
from pyserver.models import catalogue, registry
from pyserver.models.card import ModelCard
from training.cards import (
    BadInput,
    RunFacts,
    generator_settings,
    quality_of,
    read_manifest,
    read_sweep,
    refiner_settings,
    training_text,
    window_settings,
)
from training.experiments.experiment import weights_in
from training.runs import RunMismatch
from training.shards import MIB, write_shards

CHECKSUMS = "SHA256SUMS"
GENERATOR = "generator"
"""Stage, and part, of a generative model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    separator: Path
    """Run of the separator, or of a generative model or a joint prior, which have no other part."""
    refiner: Path | None = None
    """Run of the refiner that goes with it: consistency, diffusion, control or joint. Without: a separator alone."""
    out: Path
    """Folder of the model; what is there is replaced when all is written."""
    name: str = "stemline-small"
    title: str = "Stemline small: bass, drums, guitar, piano, other"
    shard_mb: float | None = None
    """No file of weights is larger than this many MiB."""
    sigma_max: float | None = None
    """The refiner's starting level for one step, chosen on validation data."""
    sweep: Path | None = None
    """JSON of `training.sweep`: the best levels of every number of steps, instead of `--sigma-max`."""
    sampler: Path | None = None
    """JSON of `training.sweep_rho`: how a generative model is sampled."""
    default_steps: int | None = None
    """Refiner steps where the user does not say; default: 1 if it was swept, else the fewest that were."""
    runs: tuple[Path, ...] = ()
    """Further runs whose steps the card states, as the diffusion that a consistency model was distilled from."""
    data: tuple[Path, ...] = ()
    """Rendered splits with a `manifest.json`: their hours, sources and licences go into the card."""
    training_data: str = ""
    """What else there is to say about the data."""
    licence: str = "GPL-3.0-or-later"
    quality: tuple[Path, ...] = ()
    """JSON that `training.evaluate --json` wrote."""
    notes: str = ""


def load_part(model: nn.Module, part: str, run: Path) -> None:
    """The best weights by validation, where there are such, else the last saved. Raises BadInput."""
    try:
        (model.get_submodule(part) if part else model).load_state_dict(weights_in(run, part))
    except RunMismatch as error:
        raise BadInput(str(error), folder=run) from error


def export(arguments: Arguments) -> catalogue.InstalledModel:
    """Writes the model and gives it back as the catalogue reads it. Raises BadInput, ShardTooSmall."""
    facts = RunFacts.read(arguments.separator)
    refiner = RunFacts.read(arguments.refiner) if arguments.refiner else None
    if refiner is not None and facts.stage == GENERATOR:
        raise BadInput(f"{facts.folder} is a generative model, which has no refiner beside it")
    if refiner is not None and (refiner.architecture, refiner.stems) != (facts.architecture, facts.stems):
        raise BadInput(f"{refiner.folder} is a refiner of another model than {facts.folder}")
    if refiner is not None and facts.prior is not None:
        raise BadInput(f"{facts.folder} is a joint prior, which no refiner goes with")
    network = network_of(facts, refiner)
    model = registry.build(facts.architecture, network)
    load_part(model, _first_part(facts), facts.folder)
    if refiner is not None:
        load_part(model, "refiner", refiner.folder)
    beside = arguments.out.with_name(f".{arguments.out.name}.partial")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        limit = None if arguments.shard_mb is None else int(arguments.shard_mb * MIB)
        names = write_shards(model.state_dict(), beside, limit)
        card = card_of(arguments, facts, refiner, {name: catalogue.sha256_of(beside / name) for name in names})
        (beside / catalogue.CARD_FILE).write_text(card.to_json(), encoding="utf-8")
        sums = {**card.sha256, catalogue.CARD_FILE: catalogue.sha256_of(beside / catalogue.CARD_FILE)}
        (beside / CHECKSUMS).write_text("".join(f"{digest}  {name}\n" for name, digest in sums.items()))
        shutil.rmtree(arguments.out, ignore_errors=True)
        beside.rename(arguments.out)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return catalogue.load_installed(arguments.out)


def _first_part(facts: RunFacts) -> str:
    """What the first run trained: a joint prior is one part, the whole of it."""
    if facts.prior is not None:
        return ""
    return GENERATOR if facts.stage == GENERATOR else "separator"


def network_of(facts: RunFacts, refiner: RunFacts | None) -> dict[str, Any]:
    """Of a separator alone, without the refiner that its configuration may speak of."""
    network = dict((refiner or facts).network)
    return network if refiner is not None or "refiner" not in network else {**network, "refiner": None}


def card_of(arguments: Arguments, facts: RunFacts, refiner: RunFacts | None, sha256: dict[str, str]) -> ModelCard:
    levels = {1: arguments.sigma_max} if arguments.sigma_max is not None else {}
    if arguments.sweep is not None:
        levels = read_sweep(arguments.sweep)
    runs = [facts, *(RunFacts.read(run) for run in arguments.runs), *([refiner] if refiner else [])]
    text = training_text([read_manifest(path) for path in arguments.data], runs)
    sampling = refiner_settings(refiner, levels, arguments.default_steps) if refiner else None
    if facts.stage == GENERATOR:
        sampling = generator_settings(facts, arguments.sampler)
    documents: list[dict[str, Any]] = [json.loads(path.read_text()) for path in arguments.quality]
    return ModelCard(
        name=arguments.name,
        title=arguments.title,
        architecture=facts.architecture,
        config=network_of(facts, refiner),
        stems=facts.stems,
        sample_rate_hz=facts.sample_rate_hz,
        channels=facts.channels,
        **window_settings(facts),
        refiner=sampling,
        licence=arguments.licence,
        weights=tuple(sha256),
        sha256=sha256,
        training_data=" ".join(filter(None, [arguments.training_data, text])),
        quality=quality_of(documents, "+".join(sha256.values())),
        notes=arguments.notes,
    )


def main(arguments: Arguments) -> None:
    try:
        model = export(arguments)
    except StemlineError as error:
        raise SystemExit(str(error)) from error
    for path in model.weight_paths:
        print(f"{path}: {path.stat().st_size / MIB:.2f} MiB")


if __name__ == "__main__":
    main(tyro.cli(Arguments))
