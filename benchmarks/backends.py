"""PyTorch beside ONNX Runtime, the same windows in turns, in one run:

    python -m benchmarks.backends                                    # the shipped model
    python -m benchmarks.backends --model dicose-unet --steps 0      # any that is installed
    python -m benchmarks.backends --full-size unet --folder /var/tmp # the published sizes with random weights, some GB

The export is made in a folder of its own and removed; what the server takes is not touched.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

from benchmarks import full_size
from benchmarks.table import Row, show
from pyserver.engine.backend_choice import compared
from pyserver.engine.devices import pick_device, usable_cores
from pyserver.engine.onnx_runtime import Place, provider_for, put_cores, version
from pyserver.engine.pipeline import Pipeline
from pyserver.engine.timing import probe
from pyserver.engine.weights import read_network
from pyserver.models import catalogue
from pyserver.models.card import ModelCard
from pyserver.models.interface import AnyModel
from pyserver.models.onnx_export import export_cores


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    model: str = catalogue.DEFAULT_MODEL
    full_size: full_size.Name | None = None
    """A published network with random weights in the place of `--model`."""
    steps: int | None = None
    """Of the refiner; default: what the model's card says."""
    threads: int = 0
    """Of a CPU; 0: one for each physical core."""
    cpu: bool = False
    """Also where there is a GPU."""
    folder: Path | None = None
    """Where the export goes until it is removed; default: the temporary directory."""


def main(arguments: Arguments) -> None:
    device = pick_device("cpu" if arguments.cpu else "auto")
    place = Place(provider_for(device), device, arguments.threads or usable_cores())
    torch.set_num_threads(place.threads)
    card, own, other = _twins(arguments)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        found = export_cores(own, card, Path(folder), lambda core: print(f"exporting {core}", flush=True))
        put_cores(other, card.architecture, card.name, found, place)
        steps = card.default_steps if arguments.steps is None else arguments.steps
        rows = []
        with_torch, with_onnx = Pipeline(own, card, device), Pipeline(other, card, device)
        for what, samples in (("bounce", card.window_samples), ("live", card.live_window_samples)):
            window = probe(card, samples, steps)
            timed = compared(lambda: with_torch.run(window), lambda: with_onnx.run(window))  # noqa: B023
            what = f"{card.name}, a {what} window, {steps} steps, {place.provider} {version()}"
            rows.append(Row(what, f"PyTorch, {place.threads} threads", timed.ratio))
        show({"python -m benchmarks.backends": rows})


def _twins(arguments: Arguments) -> tuple[ModelCard, AnyModel, AnyModel]:
    """The card, and the same network twice."""
    if arguments.full_size is None:
        installed = catalogue.find(arguments.model)
        return installed.card, read_network(installed), read_network(installed)
    name, size = arguments.full_size, full_size.SIZES[arguments.full_size]
    return full_size.card(name, size), full_size.network(name, size), full_size.network(name, size)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
