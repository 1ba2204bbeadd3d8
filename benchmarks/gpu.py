"""The published sizes with random weights on a GPU, as the engine computes them there:

    python -m benchmarks.gpu             # both, on the first GPU
    python -m benchmarks.gpu --compiled  # against torch.compile too, which takes minutes
    python -m benchmarks.gpu --tiny      # on a CPU and with tiny networks: whether this program works, and nothing else

Separator and one consistency step over a window of 11.9 s (U-Net, mono) or 11 s (BS-RoFormer, stereo), four stems each,
against the audio's duration and against the bare networks as anybody would call them: eager, in float32. Random weights
may be more or less sensitive to half precision than trained ones, so a row says what computed it. CUDA graphs are what
the engine computes live windows with; here of the long window as well, against the same without.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import tyro

from benchmarks.full_size import SIZES, Name, Size, bare, card, in_turns, network
from benchmarks.table import Row, show
from pyserver.engine.cuda_graphs import GraphedCores, capture_on
from pyserver.engine.devices import compute_repeatably, pick_device
from pyserver.engine.half_precision import LEAST_DB, NAMES, HalfPrecision
from pyserver.engine.pipeline import Pipeline
from pyserver.engine.timing import probe

REALTIME_LIMITS: Mapping[Name, float] = {"unet": 0.004, "bs_roformer": 0.012}
EAGER_LIMIT = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    model: Name | None = None
    """Default: one after the other."""
    device: str = "auto"
    runs: int = 10
    compiled: bool = False
    """Also against the networks compiled by torch, in the precision that was chosen."""
    tiny: bool = False
    """On a CPU, in seconds; the ratios then mean nothing."""


def tiny(name: Name) -> Size:
    """The same networks, a few channels wide."""
    size, network = SIZES[name], dict(SIZES[name].config["separator"])
    narrow: Mapping[Name, dict[str, Any]] = {
        "unet": {"channels": 16, "multipliers": [1] * 7, "attention_heads": 2, "attention_features": 8},
        "bs_roformer": {"dim": 16, "depth": 2, "dim_head": 8, "heads": 2, "stft_adapter_hidden": 8},
    }
    narrowed = network | narrow[name]
    config = {**size.config, "separator": narrowed, "refiner": narrowed}
    return replace(size, config=config, window_samples=32768, margin_samples=1024)


def measured(name: Name, arguments: Arguments) -> list[Row]:
    """Rows of one model. The bare networks are others with the same weights, since the pipeline's are surrounded."""
    size = tiny(name) if arguments.tiny else SIZES[name]
    device = pick_device("cpu" if arguments.tiny else arguments.device)
    about, theirs = card(name, size), network(name, size).to(device)
    pipeline, window = Pipeline(network(name, size), about, device), probe(about, size.window_samples, 1)
    half = HalfPrecision(pipeline.model, about.architecture, device)
    compute_repeatably(device)
    chosen = half.choose(lambda: pipeline.run(window).stems_SCN, LEAST_DB)

    def ours() -> None:
        compute_repeatably(device)
        pipeline.run(window)

    def eager() -> None:
        torch.use_deterministic_algorithms(False)
        bare(theirs, size, device).cpu()  # waits for it

    ours_s, eager_s = in_turns([ours, eager], arguments.runs)
    what = f"{name}, separator + 1 step, {len(about.stems)} stems, {NAMES[chosen] if chosen else 'fp32'}"
    rows = [
        Row(what, "the audio's duration", ours_s * size.sample_rate_hz / size.window_samples, REALTIME_LIMITS[name]),
        Row(what, "its bare networks, eager fp32", ours_s / eager_s, EAGER_LIMIT),
    ]
    if arguments.compiled:
        for child in theirs.children():
            child.compile(dynamic=False)

        def compiled() -> None:
            with torch.autocast(device.type, chosen, enabled=chosen is not None):
                eager()

        ours_s, compiled_s = in_turns([ours, compiled], arguments.runs)
        rows.append(Row(what, "its bare networks, compiled, in that precision", ours_s / compiled_s))
    return rows + graphed(what, pipeline, arguments)


def graphed(what: str, pipeline: Pipeline, arguments: Arguments) -> list[Row]:
    """The long and the live window by CUDA graphs, against the same without them."""
    about, rows = pipeline.card, []
    graphs = GraphedCores(pipeline.model, about.architecture, capture_on(pipeline.device) or computed_again)
    for which, samples in (("long", about.window_samples), ("live", about.live_window_samples)):
        window = probe(about, samples, 1)
        with graphs.capturing():
            pipeline.run(window)

        def without() -> None:
            with graphs.off():
                pipeline.run(window)  # noqa: B023

        with_s, without_s = in_turns([lambda: pipeline.run(window), without], arguments.runs)  # noqa: B023
        rows.append(Row(f"{what}: {which} window, {len(graphs)} CUDA graphs", "without them", with_s / without_s))
    return rows


def computed_again(compute: Callable[[], None]) -> Callable[[], None]:
    """In the place of a graph where there is no GPU."""
    compute()
    return compute


def main(arguments: Arguments) -> None:
    rows: list[Row] = []
    if arguments.tiny:
        torch.set_num_threads(1)  # more would wait for each other longer than they compute
    for name in [arguments.model] if arguments.model else SIZES:
        rows += measured(name, arguments)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    show({"python -m benchmarks.gpu": rows})


if __name__ == "__main__":
    main(tyro.cli(Arguments))
