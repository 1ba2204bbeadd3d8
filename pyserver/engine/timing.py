"""What a model's windows cost on this device, found by computing some."""

import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from pyserver.engine.messages import LoadedModel, SeparationSettings, WalkRequest, WindowRequest
from pyserver.engine.pipeline import Pipeline
from pyserver.models.card import ModelCard

_LIVE_RUNS = 3
_PROBED_STEPS = 2  # of a prior, whose steps are many and cost the same
_BATCHES = (2, 4)
_WORTH = 0.95  # of the time that a window takes in the next smaller batch: what a larger one has to stay below


def measured(pipeline: Pipeline, card: ModelCard) -> LoadedModel:
    """Times a bounce window and live windows, with and without the refiner; all networks are warm by then.

    What cannot do without steps is timed with one and with two.
    """
    steps, least = card.default_steps, 0 if card.prior is None else 1
    probed = min(steps, _PROBED_STEPS) if card.prior else steps

    def seconds(length: int, refiner_steps: int, runs: int) -> float:
        window = probe(card, length, refiner_steps)
        times = []
        for _ in range(runs):
            began = time.perf_counter()
            pipeline.run(window)
            times.append(time.perf_counter() - began)
        return statistics.median(times)

    hop = card.window_samples - 2 * card.margin_samples - card.fade_samples
    bounce_s = seconds(card.window_samples, probed, runs=1)
    if probed < steps:
        a_step_s = max(0.0, bounce_s - seconds(card.window_samples, least, runs=1)) / (probed - least)
        bounce_s += a_step_s * (steps - probed)
    base_s = seconds(card.live_window_samples, least, _LIVE_RUNS)
    full_s = seconds(card.live_window_samples, probed, _LIVE_RUNS) if probed > least else base_s
    live_step_s = max(0.0, full_s - base_s) / max(probed - least, 1)
    window = probe(card, card.live_window_samples, probed)
    return replace(
        unmeasured(card),
        realtime_factor=bounce_s * card.sample_rate_hz / hop,
        bounce_window_s=bounce_s,
        live_base_s=max(0.0, base_s - least * live_step_s),
        live_step_s=live_step_s,
        # On a CPU batches gain a tenth, and timing them would keep the first session waiting for seconds.
        live_batch=1
        if pipeline.device.type == "cpu"
        else best_batch(lambda size: pipeline.run_together([window] * size)),
    )


def best_batch(compute: Callable[[int], object]) -> int:
    """The largest size up to which each batch was faster, by the window, than the one before it.

    Those compared take turns after a cold run, and the fastest run of each counts: what else the machine does can only
    add.
    """
    best = 1
    for size in _BATCHES:
        compute(size)
        turns = [(_seconds(compute, best), _seconds(compute, size)) for _ in range(_LIVE_RUNS)]
        smaller_s, larger_s = (min(column) for column in zip(*turns, strict=True))
        if larger_s / size > _WORTH * smaller_s / best:
            break
        best = size
    return best


def _seconds(compute: Callable[[int], object], size: int) -> float:
    began = time.perf_counter()
    compute(size)
    return time.perf_counter() - began


def unmeasured(card: ModelCard) -> LoadedModel:
    return LoadedModel(
        name=card.name,
        weights_sha256=card.weights_sha256,
        realtime_factor=0.0,
        bounce_window_s=0.0,
        live_base_s=0.0,
        live_step_s=0.0,
    )


def first_step(card: ModelCard) -> WalkRequest:
    """Of a window of which nothing is known."""
    nothing = np.zeros((len(card.stems), card.window_samples), np.float32)
    return WalkRequest(
        model=card.name,
        sources_SL=nothing,
        mask_SL=nothing,
        position=0,
        noise_seed=0,
        steps=card.generation_steps_for(None),
        first=0,
        stop=1,
        x_SP=None,
    )


def probe(card: ModelCard, length: int, refiner_steps: int, channels: int | None = None) -> WindowRequest:
    """A window of noise, of as many channels as the model has: silence might be cheaper than music, denormal numbers
    dearer."""
    shape = channels or card.channels, length
    noise = np.random.default_rng(0).standard_normal(shape, dtype=np.float32) * np.float32(0.1)
    settings = SeparationSettings(refiner_steps=refiner_steps, noise_seed=0)
    return WindowRequest(card.name, noise, card.sample_rate_hz, 0, (0, length), settings)
