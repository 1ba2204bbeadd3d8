"""What one training step of an experiment costs, where the time goes, and how near it comes to the machine's limit:

    python -m benchmarks.training_step --experiment dicose_bsrf_musdb_separator

The experiment's own networks, losses, effects and optimiser on noise instead of songs; drawing crops is not part of it.
On a GPU a micro-batch as the experiment sets it, in its own precision; on a CPU one crop in fp32. The limit is what a
large matrix product reaches in this run, in the same precision.
"""

import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from benchmarks.table import machine
from pyserver.allocator import keep_freed_memory
from pyserver.models import registry
from training.blocks import checkpoint_activations, compile_blocks
from training.experiments.experiment import Experiment, Sources
from training.experiments.registry import experiment
from training.loop import Precision, Stage, TrainConfig, add_up_gradients, update_average
from training.optimisers import Optimiser, build_optimiser, clip_gradients
from training.parallel import World, join

GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (  # the first that fits an operation's name
    ("optimiser", ("adam", "_fused", "foreach")),
    ("attention", ("attention", "flash")),
    ("convolutions", ("conv",)),
    ("matrix products", ("mm", "bmm", "linear")),
    ("Fourier transforms", ("fft",)),
    ("normalisation", ("norm", "var_mean")),
    ("activations, dropout, softmax", ("gelu", "silu", "tanh", "sigmoid", "glu", "dropout", "bernoulli", "softmax")),
    ("copies, precision", ("copy", "cat", "clone", "stack", "contiguous", "index", "slice", "select", "zero", "fill")),
    ("random numbers", ("rand", "normal_", "uniform", "exponential")),
    ("sums and elements", ("",)),
)
MATRIX = {"cpu": 2048, "cuda": 8192}


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    experiment: str
    items: int | None = None
    """Crops of a micro-batch; default: one on a CPU, the experiment's own on a GPU."""
    crop_part: float = 1.0
    """Of the crop's length, where the whole does not fit the memory or the patience."""
    steps: int = 3
    """That are timed, after a first one that is not."""
    device: str = ""
    threads: int = 0
    precision: Literal["fp32", "bf16"] | None = None
    checkpoint_activations: bool | None = None
    compile: bool | None = None
    smoke: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """The experiment's tiny network, to see that all of it runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Untrained(Sources):
    """Networks as they are before training cost what trained ones cost."""

    settings: dict[str, Any]

    def part_of(self, experiment: str, part: str) -> dict[str, Tensor]:
        model = registry.build(self.settings["architecture"], self.settings["network"])
        return model.get_submodule(part).state_dict()


@dataclass(frozen=True, slots=True)
class Trainee:
    """What a step works on. `batch_BSCL` is one micro-batch of noise."""

    stage: Stage
    average: nn.Module
    optimiser: Optimiser
    config: TrainConfig
    batch_BSCL: Tensor
    world: World

    def gradients(self) -> None:
        self.optimiser.zero_grad()
        loss = add_up_gradients(self.stage, self.batch_BSCL, self.config, self.world, step=0)
        if not loss.isfinite():
            raise FloatingPointError(f"loss is {float(loss)}")

    def update(self) -> None:
        """Clipping, optimiser and average, at a learning rate of 0: every step finds the same weights."""
        weights = [value for value in self.stage.trained.parameters() if value.requires_grad]
        clip_gradients(weights, self.config.optimiser.clip_norm)
        self.optimiser.set_rate(0.0)
        self.optimiser.step()
        update_average(self.average, self.stage.trained, self.config.optimiser.ema_decay_at(0))
        self.stage.after_step(self.average)

    def step(self) -> None:
        """As `training.loop.train` does it."""
        self.gradients()
        self.update()


def configured(arguments: Arguments, world: World) -> Experiment:
    found = experiment(arguments.experiment)
    if arguments.smoke:
        found = found.smoke()
    train, on_gpu = found.train, world.device.type == "cuda"
    items = arguments.items or (train.items_at_once() if on_gpu else 1)
    multiple = 8192  # of the U-Net; a crop shorter than that is the tiny networks'
    samples = int(train.crop.samples * arguments.crop_part)
    samples = samples // multiple * multiple or train.crop.samples if arguments.crop_part < 1 else train.crop.samples
    changes: dict[str, Any] = {
        name: value for name in ("checkpoint_activations", "compile") if (value := getattr(arguments, name)) is not None
    }
    precision = Precision(arguments.precision) if arguments.precision else train.precision if on_gpu else Precision.FP32
    crop = replace(train.crop, samples=samples)
    train = replace(train, batch_size=items, micro_batch=items, crop=crop, precision=precision, **changes)
    return replace(found, train=train)


def trainee(found: Experiment, world: World) -> Trainee:
    config = found.train
    with world.device:
        stage, average = found.build(Untrained(validation=Path(), settings=found.network_settings()))
    if config.checkpoint_activations:
        checkpoint_activations(stage.trained, stage.blocks)
    if config.compile:
        compile_blocks(stage.trained, stage.blocks)
    shape = (config.batch_size, len(found.stems), found.channels, config.crop.samples)
    batch = 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return Trainee(stage, average, build_optimiser(stage.trained, config.optimiser), config, batch, world)


def seconds(call: Callable[[], object], world: World) -> float:
    """By the clock, of a GPU too; of a single thread its processor time, which other programs do not lengthen."""
    on_gpu = world.device.type == "cuda"
    clock = time.process_time if not on_gpu and torch.get_num_threads() == 1 else time.perf_counter
    if on_gpu:
        torch.cuda.synchronize()
    began = clock()
    call()
    if on_gpu:
        torch.cuda.synchronize()
    return clock() - began


def matmul_limit(world: World, precision: Precision) -> float:
    """FLOP/s of a large matrix product."""
    size = MATRIX[world.device.type]
    dtype = torch.bfloat16 if precision is Precision.BF16 else torch.float32
    left, right = (torch.randn((size, size), device=world.device).to(dtype) for _ in range(2))
    return 2 * size**3 / min(seconds(lambda: torch.mm(left, right), world) for _ in range(6))


def counted_flop(step: Callable[[], None]) -> int:
    """Of matrix products, convolutions and attention, as executed: what checkpointing computes again counts again."""
    aten = torch.ops.aten
    on_cpu = {  # which PyTorch does not count
        aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *a, out_shape=None, **n: sdpa_flop_count(  # type: ignore[no-untyped-call]
            q, k, v
        ),
        aten._scaled_dot_product_flash_attention_for_cpu_backward: (
            lambda grad, q, k, v, *a, out_shape=None, **n: sdpa_backward_flop_count(  # type: ignore[no-untyped-call]
                grad, q, k, v
            )
        ),
    }
    with FlopCounterMode(display=False, custom_mapping=on_cpu) as counter:
        step()
    return int(counter.get_total_flops())


def group_of(name: str) -> str:
    return next(group for group, parts in GROUPS if any(part in name for part in parts))


def costs(step: Callable[[], None], world: World) -> dict[str, float]:
    """Share of a step's time by group of operations, largest first."""
    on_gpu = world.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as profiler:
        step()
    found: dict[str, float] = {}
    for event in profiler.key_averages():
        own = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        if event.key.startswith(("aten::", "torchaudio::")) or "compiled" in event.key.lower():
            group = group_of(event.key.removeprefix("aten::").lower())
            found[group] = found.get(group, 0.0) + own
    total = sum(found.values())
    return {group: found[group] / total for group in sorted(found, key=lambda one: -found[one])}


def peak_bytes(world: World) -> int:
    if world.device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main(arguments: Arguments) -> None:
    torch.set_float32_matmul_precision("high")  # as `training.train`
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    world = join(arguments.device)
    if world.device.type == "cpu":
        keep_freed_memory()
    found = configured(arguments, world)
    config = found.train
    limit = matmul_limit(world, config.precision)
    subject = trainee(found, world)
    flop = counted_flop(subject.step)
    parts = [(seconds(subject.gradients, world), seconds(subject.update, world)) for _ in range(arguments.steps)]
    step_s, update_s = statistics.median(map(sum, parts)), statistics.median(update for _, update in parts)
    shares = costs(subject.step, world)
    audio_s = config.batch_size * config.crop.samples / found.sample_rate_hz
    on_gpu = world.device.type == "cuda"
    print(torch.cuda.get_device_name() if on_gpu else f"{machine()}, {torch.get_num_threads()} threads")
    again = ", activations computed again" if config.checkpoint_activations else ""
    crops = f"{config.batch_size} crops of {audio_s / config.batch_size:.2f} s"
    print(f"{found.name}: {crops}, {config.precision}{again}, peak {peak_bytes(world) / 2**30:.1f} GiB")
    update = f"{update_s / step_s:.0%} of it to update the weights"
    print(f"a step takes {step_s:.3g} s, {update}: {audio_s / step_s:.3g} s of audio a second")
    speed = f"{flop / step_s / 1e9:,.1f} GFLOP/s, {flop / step_s / limit:.0%} of a matrix product's"
    print(f"{flop / 1e9:,.0f} GFLOP: {speed} {limit / 1e9:,.1f}")
    table = Table("operations", "share of a step")
    for group, share in shares.items():
        table.add_row(group, f"{share:.1%}")
    Console(width=80).print(table)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
