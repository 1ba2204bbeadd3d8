"""The published sizes with random weights: what the pipeline adds to the bare networks, and the most memory it takes:

    python -m benchmarks.full_size                                      # both, half an hour on two cores
    python -m benchmarks.full_size --model unet --rivals compiled onnx  # against the networks compiled, or exported
    python -m benchmarks.full_size --model bs_roformer --seconds 1 --rivals compiled onnx     # an hour less

Separator and one consistency step over one window of 12 (U-Net, mono) or 11 s (BS-RoFormer, stereo), every model in a
process of its own. Bare networks are called as the pipeline calls them and with nothing around them, in turns with it.
"""

import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from torch import Tensor

from benchmarks.table import Row, show
from pyserver.allocator import keep_freed_memory
from pyserver.diffusion.scalings import consistency_scalings
from pyserver.engine.devices import pick_device, usable_cores
from pyserver.engine.half_precision import INSISTED_DB, HalfPrecision, is_faster
from pyserver.engine.onnx_runtime import Place, provider_for, put_cores
from pyserver.engine.pipeline import Pipeline
from pyserver.engine.timing import probe
from pyserver.models import catalogue, registry
from pyserver.models.card import ModelCard
from pyserver.models.dicose import published_bs_roformer, published_unet
from pyserver.models.interface import SeparationModel
from pyserver.models.onnx_export import export_cores
from pyserver.models.onnx_files import MANIFEST, Export, FoundExport
from pyserver.models.published import BACKBONES

Name = Literal["unet", "bs_roformer"]
Rival = Literal["compiled", "onnx"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    config: Mapping[str, Any]
    sample_rate_hz: int
    channels: int
    window_samples: int
    margin_samples: int
    realtime_limit: float | None = None
    memory_limit_gb: float | None = None
    half: bool = False
    """Whether it is worth measuring in half precision, where the processor has it (`--backend torch-half`)."""


SIZES: Mapping[Name, Size] = {
    "unet": Size(
        config=asdict(published_unet()),
        sample_rate_hz=22050,
        channels=1,
        window_samples=262144,
        margin_samples=16384,
        realtime_limit=0.75,
        half=True,
    ),
    "bs_roformer": Size(
        config=asdict(published_bs_roformer()),
        sample_rate_hz=44100,
        channels=2,
        window_samples=485100,
        margin_samples=22050,
        memory_limit_gb=3.0,
    ),
}
OVERHEAD_LIMIT = 1.1
_CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    model: Name | None = None
    """Default: one after the other."""
    rivals: tuple[Rival, ...] = ()
    """What else computes the bare networks; compiling and exporting take minutes."""
    seconds: float = 0.0
    """Of a window; 0: all of it. Compilers and exporters take as long for a short one."""
    exports: Path | None = None
    """Where exports are kept for the next time; default: nowhere."""
    runs: int = 3
    threads: int = 0
    """Of a CPU; 0: one for each physical core."""


def shortened(size: Size, seconds: float) -> Size:
    """With windows so long, or as they are for 0."""
    if not seconds:
        return size
    samples = round(seconds * size.sample_rate_hz)
    return replace(size, window_samples=samples, margin_samples=min(size.margin_samples, samples // 8))


def card(name: Name, size: Size) -> ModelCard:
    """As if it had been imported, with four stems."""
    like = catalogue.find(catalogue.DEFAULT_MODEL).card
    return replace(
        like,
        name=f"dicose_{name} (random weights)",
        architecture=f"dicose_{name}",
        config=size.config,
        stems=like.stems[:4],
        sample_rate_hz=size.sample_rate_hz,
        channels=size.channels,
        window_samples=size.window_samples,
        margin_samples=size.margin_samples,
        live_window_samples=min(BACKBONES[name].live_window_samples, size.window_samples),
    )


def network(name: Name, size: Size) -> SeparationModel:
    """The same weights every time."""
    torch.manual_seed(0)
    found = registry.build(f"dicose_{name}", size.config).eval()
    assert isinstance(found, SeparationModel)
    return found


def bare(model: SeparationModel, size: Size, device: torch.device = _CPU) -> Tensor:
    """The separator and one pass of the refiner for all stems, on noise of a window's length."""
    mixture_BCL = 0.1 * torch.randn(1, size.channels, size.window_samples, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        stems_BSCL, features = model.separate(mixture_BCL.to(device))
        return model.denoise(stems_BSCL, torch.full((1,), 0.003, device=device), features, consistency_scalings)


def in_turns(calls: Sequence[Callable[[], object]], runs: int) -> list[float]:
    """Median seconds of each; the first, cold run of each is thrown away."""
    times: list[list[float]] = [[] for _ in calls]
    for run in range(runs + 1):
        for call, taken in zip(calls, times, strict=True):
            began = time.perf_counter()
            call()
            if run:
                taken.append(time.perf_counter() - began)
    return [statistics.median(taken) for taken in times]


def measured(name: Name, arguments: Arguments) -> list[Row]:
    """Rows of one model. The peak of memory is read before any rival is made."""
    threads = arguments.threads or usable_cores()
    torch.set_num_threads(threads)
    keep_freed_memory()  # as the engine process does
    size = shortened(SIZES[name], arguments.seconds)
    about, model = card(name, size), network(name, size)
    pipeline, window = Pipeline(model, about, _CPU), probe(about, size.window_samples, 1)
    whole_s, bare_s = in_turns([lambda: pipeline.run(window), lambda: bare(model, size)], arguments.runs)
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    audio_s = size.window_samples / size.sample_rate_hz
    shorter = f", {arguments.seconds:g} s" if arguments.seconds else ""
    what = f"full-size {name}, separator + 1 step, {threads} threads{shorter}"
    in_half = size.half and is_faster(_CPU)
    rows = [
        Row(what, "the audio's duration", whole_s / audio_s, None if in_half else size.realtime_limit),
        Row(what, "its bare networks, eager", whole_s / bare_s, OVERHEAD_LIMIT),
    ]
    if not arguments.seconds:
        rows.append(Row(f"{what}: peak memory", "1 GB", peak_gb, size.memory_limit_gb))
    for rival in arguments.rivals:
        theirs = network(name, size)
        with tempfile.TemporaryDirectory() as folder:
            make_rival(rival, theirs, about, arguments.exports or Path(folder), threads)
            ours_s, rival_s = in_turns(
                [lambda: pipeline.run(window), lambda: bare(theirs, size)],  # noqa: B023
                arguments.runs,
            )
        rows.append(Row(what, f"its bare networks, {rival}", ours_s / rival_s, OVERHEAD_LIMIT))
    if in_half:
        half = HalfPrecision(model, about.architecture, _CPU)
        half.choose(lambda: pipeline.run(window).stems_SCN, INSISTED_DB)
        half.keep()
        (half_s,) = in_turns([lambda: pipeline.run(window)], arguments.runs)
        inexact = f"{what}, bf16 ({half.found_db:.1f} dB from float32)"
        rows.append(Row(inexact, "the audio's duration", half_s / audio_s, size.realtime_limit))
    return rows


def make_rival(rival: Rival, model: SeparationModel, about: ModelCard, folder: Path, threads: int) -> None:
    """Puts other code in the place of the model's networks."""
    if rival == "compiled":
        for child in model.children():
            child.compile(dynamic=False)
        return
    device = pick_device("cpu")
    place = Place(provider_for(device), device, threads)
    home = folder / about.architecture
    manifest = home / MANIFEST
    if manifest.exists():
        export = Export.from_json(manifest.read_text())
        found = FoundExport(export, home / export.token)
    else:
        found = export_cores(model, about, home, lambda core: print(f"exporting {core}", flush=True))
    put_cores(model, about.architecture, about.name, found, place)


def rows(arguments: Arguments) -> list[Row]:
    found: list[Row] = []
    for name in [arguments.model] if arguments.model else SIZES:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found += pool.apply(measured, (name, arguments))
    return found


if __name__ == "__main__":
    show({"python -m benchmarks.full_size": rows(tyro.cli(Arguments))})
