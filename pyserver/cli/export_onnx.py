"""`models export-onnx`: a model's cores for ONNX Runtime, and which back end is the faster one here."""

from pathlib import Path

import torch

from pyserver import paths
from pyserver.cli import console
from pyserver.engine.backend_choice import CHOICES_FILE, Choices, compared, verdict
from pyserver.engine.devices import pick_device, usable_cores
from pyserver.engine.onnx_runtime import Place, provider_for, put_cores
from pyserver.engine.pipeline import Pipeline
from pyserver.engine.timing import probe
from pyserver.engine.weights import read_network
from pyserver.models import catalogue
from pyserver.models.catalogue import InstalledModel
from pyserver.models.cores import NoCores, has_cores
from pyserver.models.onnx_export import export_cores
from pyserver.models.onnx_files import ExportMissing, ExportStale, FoundExport, find_export, home_of


def export_onnx(name: str, output: Path | None, *, cpu: bool, replace: bool) -> None:
    """Raises what the catalogue raises, NoCores, ExporterMissing, ExportFailed, ProviderNotActive."""
    installed = catalogue.find(name)
    if not has_cores(installed.card.architecture):
        raise NoCores(installed.card.name, installed.card.architecture)
    if output is not None:
        console.stdout.print(str(_exported(installed, output).folder))
        return
    found = None if replace else _current(installed)
    if found is None:
        found = _exported(installed, home_of(installed))
    else:
        console.say("the export that is there fits; give --replace to make it again")
    console.stdout.print(str(found.folder))
    _choose(installed, found, cpu=cpu)


def _current(installed: InstalledModel) -> FoundExport | None:
    try:
        found = find_export(installed)
        found.verify(installed.card.name)
    except (ExportMissing, ExportStale):
        return None
    return found


def _exported(installed: InstalledModel, home: Path) -> FoundExport:
    catalogue.verify(installed)
    network = read_network(installed)
    return export_cores(network, installed.card, home, lambda core: console.say(f"exporting {core}"))


def _choose(installed: InstalledModel, found: FoundExport, *, cpu: bool) -> None:
    """Times both and keeps what came out."""
    card = installed.card
    device = pick_device("cpu" if cpu else "auto")
    place = Place(provider_for(device), device, usable_cores())
    torch.set_num_threads(place.threads)
    console.say(f"timing {card.name} with PyTorch and with {place.provider}")
    own, other = read_network(installed), read_network(installed)
    put_cores(other, card.architecture, card.name, found, place)
    window = probe(card, card.window_samples, card.default_steps)
    with_torch, with_onnx = Pipeline(own, card, device), Pipeline(other, card, device)
    timed = compared(lambda: with_torch.run(window), lambda: with_onnx.run(window))
    Choices(paths.state_dir() / CHOICES_FILE).keep(found, place, timed)
    console.say(verdict(card.name, place, timed))
