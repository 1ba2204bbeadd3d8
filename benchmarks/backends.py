"""PyTorch beside ONNX Runtime, the same windows in turns, in one run:

    python -m benchmarks.backends                                    # the shipped model
    python -m benchmarks.backends --model dicose-unet --steps 0      # any that is installed
    python -m benchmarks.backends --full-size unet --folder /var/tmp # the published sizes with random weights, some GB

The export is made in a folder of its own and removed; what the server takes is not touched.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
import tyro

from benchmarks.table import Row, show
from pyserver.engine.backend_choice import compared
from pyserver.engine.devices import pick_device, usable_cores
from pyserver.engine.onnx_runtime import Place, provider_for, put_cores, version
from pyserver.engine.pipeline import Pipeline
from pyserver.engine.torch_backend import probe, read_network
from pyserver.models import catalogue, registry
from pyserver.models.card import ModelCard
from pyserver.models.dicose import DicoseConfig, published_bs_roformer, published_unet
from pyserver.models.interface import AnyModel
from pyserver.models.onnx_export import export_cores


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    model: str = catalogue.DEFAULT_MODEL
    full_size: Literal["unet", "bs_roformer"] | None = None
    """A published network with random weights in the place of `--model`."""
    steps: int | None = None
    """Of the refiner; default: what the model's card says."""
    threads: int = 0
    """Of a CPU; 0: one for each physical core."""
    cpu: bool = False
    """Also where there is a GPU."""
    folder: Path | None = None
    """Where the export goes until it is removed; default: the temporary directory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _FullSize:
    config: DicoseConfig
    sample_rate_hz: int
    channels: int
    window_samples: int


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
        show(rows)


def _twins(arguments: Arguments) -> tuple[ModelCard, AnyModel, AnyModel]:
    """The card, and the same network twice."""
    if arguments.full_size is None:
        installed = catalogue.find(arguments.model)
        return installed.card, read_network(installed), read_network(installed)
    size = {
        "unet": _FullSize(config=published_unet(), sample_rate_hz=22050, channels=1, window_samples=262144),
        "bs_roformer": _FullSize(
            config=published_bs_roformer(), sample_rate_hz=44100, channels=2, window_samples=485100
        ),
    }[arguments.full_size]
    architecture, config = f"dicose_{arguments.full_size}", _plain(size.config)
    like = catalogue.find(catalogue.DEFAULT_MODEL).card
    card = replace(
        like,
        name=f"{architecture} (random weights)",
        architecture=architecture,
        config=config,
        stems=like.stems[:4],
        sample_rate_hz=size.sample_rate_hz,
        channels=size.channels,
        window_samples=size.window_samples,
        live_window_samples=size.window_samples // 2,
    )
    torch.manual_seed(0)
    own = registry.build(architecture, config).eval()
    other = registry.build(architecture, config).eval()
    other.load_state_dict(own.state_dict())
    return card, own, other


def _plain(config: DicoseConfig) -> Mapping[str, Any]:
    return asdict(config)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
