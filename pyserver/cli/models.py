"""`models`: what there is, fetching, importing, describing. Works without a server."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.table import Table

from pyserver.cli import console
from pyserver.cli.exits import Exit
from pyserver.errors import StemlineError
from pyserver.models import catalogue
from pyserver.models.card import ModelCard
from pyserver.models.catalogue import CatalogueEntry, InstalledModel


class BadConfiguration(StemlineError):
    reason = "BAD_CONFIGURATION"


@dataclass(frozen=True, kw_only=True)
class List:
    """Every model that is installed or could be pulled."""


@dataclass(frozen=True, kw_only=True)
class Pull:
    """Download a published model, check it and import it. An interrupted download goes on where it stopped."""

    name: tyro.conf.Positional[str]
    """One of the models that `models list` shows as not downloaded."""
    replace: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Replace the model if it is already installed."""


@dataclass(frozen=True, kw_only=True)
class Import:
    """Install a model from a published Lightning checkpoint. Nothing in the file is executed."""

    file: tyro.conf.Positional[Path]
    """A `model.ckpt` of DiCoSe, MSDM or ISDM."""
    others: tuple[Path, ...] = ()
    """Of ISDM, which has one file a stem: those of the other stems, in the order bass (the first), drums, guitar,
    piano."""
    name: str | None = None
    """What to call the model."""
    config: Path | None = None
    """JSON with the network's settings, needed only for networks that are not of the published size."""
    replace: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Replace the model if one of that name is already installed."""


@dataclass(frozen=True, kw_only=True)
class Info:
    """Describe an installed model and verify its weights."""

    name: tyro.conf.Positional[str]
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print the model card as it is."""


@dataclass(frozen=True, kw_only=True)
class ExportOnnx:
    """Write a model's core networks for ONNX Runtime, compare them with PyTorch, and time both on this machine: the
    faster one is what the server then takes. An export that is there and fits is only timed."""

    name: tyro.conf.Positional[str]
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """Write there instead and time nothing; the server looks in the model's own folder only."""
    cpu: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Time on the CPU, also where there is a GPU."""
    replace: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Export again, also if what is there fits."""


ModelsArgs = (
    Annotated[List, tyro.conf.subcommand(name="list")]
    | Annotated[Pull, tyro.conf.subcommand(name="pull")]
    | Annotated[Import, tyro.conf.subcommand(name="import")]
    | Annotated[Info, tyro.conf.subcommand(name="info")]
    | Annotated[ExportOnnx, tyro.conf.subcommand(name="export-onnx")]
)


def models(args: ModelsArgs) -> int:
    """List, pull, import, describe and export models."""
    match args:
        case List():
            _list()
        case Pull():
            _pull(args)
        case Import():
            _import(args)
        case Info():
            _info(args)
        case ExportOnnx():
            from pyserver.cli.export_onnx import export_onnx  # needs torch

            export_onnx(args.name, args.output, cpu=args.cpu, replace=args.replace)
    return Exit.OK


def _list() -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("name", "state", "can", "stems", "size", "licence"):
        table.add_column(column, overflow="fold", no_wrap=column == "name")
    for entry in catalogue.list_models():
        table.add_row(*_row(entry))
    console.stdout.print(table)


def _row(entry: CatalogueEntry) -> tuple[str, ...]:
    name = f"{entry.name} (default)" if entry.name == catalogue.DEFAULT_MODEL else entry.name
    if entry.installed is None:
        return name, f"broken: {entry.problem}" if entry.problem else "not downloaded", "", "", "", ""
    card = entry.installed.card
    can, stems = ", ".join(card.abilities), ", ".join(card.stems)
    return name, "installed", can, stems, console.size(entry.installed.file_bytes), card.licence


def _pull(args: Pull) -> None:
    from pyserver.models import pull

    published = pull.published(args.name)
    if pull.is_installed(args.name) and not args.replace:
        console.say(f"{args.name} is already installed; give --replace to fetch it again")
        return
    offer = pull.look_up(args.name)
    remote = offer.remote
    console.say(f"{published.repository} at {remote.commit[:12]}: {published.path}, {console.size(remote.num_bytes)}")
    with console.download_progress() as progress:
        task = progress.add_task(args.name, total=remote.num_bytes)
        path = pull.download(offer, lambda done, total: progress.update(task, completed=done, total=total))
    console.say("downloaded and verified; importing")
    _show_installed(pull.install(path, offer, replace=args.replace))


def _import(args: Import) -> None:
    from pyserver.models.lightning import ImportOptions, import_checkpoint  # needs torch, which takes its time

    configuration = _configuration(args.config)
    options = ImportOptions(
        name=args.name,
        configuration=configuration,
        replace=args.replace,
        source=", ".join(path.name for path in (args.file, *args.others)),
        others=args.others,
    )
    _show_installed(import_checkpoint(args.file, options))


def _configuration(path: Path | None) -> Any:
    import json

    if path is None:
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadConfiguration(f"{path} cannot be read ({error.strerror})", path=path) from error
    except ValueError as error:
        raise BadConfiguration(f"{path} is not JSON ({error})", path=path) from error


def _show_installed(model: InstalledModel) -> None:
    console.stdout.print(str(model.directory))
    console.say(f"installed {model.card.name}: {model.card.title}, {', '.join(model.card.stems)}")


def _info(args: Info) -> None:
    model = catalogue.find(args.name)
    if args.json:
        console.stdout.print(model.card.to_json().rstrip())
    else:
        for label, value in _facts(model):
            console.stdout.print(f"{label + ':':<16}{value}")
    catalogue.verify(model)
    console.say("the weights are those that the card describes")


def _posterior(card: ModelCard) -> str:
    prior = card.prior
    if prior is None or not prior.separates:
        return ""
    detail = (
        f"{prior.constrained_stem} is what the others leave" if prior.constrained_stem else f"{prior.coefficient:g}"
    )
    return f"{prior.posterior} ({detail})"


def _generation(card: ModelCard) -> str:
    walk = card.prior.generation if card.prior else None
    if walk is None:
        return ""
    steps = walk.default_steps
    return f"{steps} steps by default, {walk.evaluations(steps)} network evaluations a window"


def _facts(model: InstalledModel) -> list[tuple[str, str]]:
    card, refiner = model.card, model.card.refiner
    by_default = f"by default ({card.evaluations(card.default_steps)} network evaluations)"
    steps = f"{refiner.kind}, {refiner.default_steps} {by_default}" if refiner else "none"
    cost = f"{card.evaluations(card.default_steps)} network evaluations a window, with {card.default_steps} steps"
    lengths = (samples / card.sample_rate_hz for samples in (card.window_samples, card.live_window_samples))
    window = "{:.2f} s, live {:.2f} s".format(*lengths)
    quality = ", ".join(f"{key} {value}" for key, value in card.quality.items())
    facts = [
        ("name", card.name),
        ("title", card.title),
        ("stems", ", ".join(card.stems)),
        ("audio", f"{card.sample_rate_hz} Hz, {card.channels} channels"),
        ("windows", window),
        ("can", ", ".join(card.abilities)),
        ("refiner", "" if card.prior else steps),
        ("posterior", _posterior(card)),
        ("cost", cost if card.prior and "separate" in card.abilities else ""),
        ("generation", _generation(card)),
        ("licence", card.licence),
        ("training data", card.training_data),
        ("quality", quality),
        ("notes", card.notes),
        ("weights", f"{console.size(model.file_bytes)} in {model.directory}"),
        ("sha256", card.weights_sha256),
    ]
    return [(label, value) for label, value in facts if value]
