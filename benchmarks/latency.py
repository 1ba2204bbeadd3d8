"""What a latency costs: window, look-ahead, hop and refiner steps against quality and computing.

    python -m benchmarks.latency --songs rendered/test-song --limit 4 --seconds 12

Live windows as the server cuts them, computed by its pipeline, over the middle of some songs whose stems are known.
Loss is what live stems lack of a bounce's SI-SDR (MSDM's protocol: chunks of 4 s in which a stem sounds; bass, drums,
guitar and piano). Cost is CPU time for a second of sound. Latency holds on this machine beside nothing else: what the
windows need, and for computing what `pyserver.separation.live_plan` allows with all of `--threads`.
"""

import itertools
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table

from benchmarks.table import machine
from pyserver.allocator import keep_freed_memory
from pyserver.engine.messages import Audio, SeparationSettings
from pyserver.engine.pipeline import Pipeline
from pyserver.models.card import ModelCard
from pyserver.models.catalogue import DEFAULT_MODEL
from pyserver.separation.errors import LatencyNotPossible
from pyserver.separation.live import LiveSession, LiveStems
from pyserver.separation.live_plan import LiveCosts, LivePlan, plan_live, plan_without_deadlines
from training.data.pool import StemPool
from training.metrics import audible_chunks, is_silent, si_sdr
from training.separate import RATE_HZ, local_model, song_separator
from training.validation import as_audio

JUDGED = ("bass", "drums", "guitar", "piano")
BLOCK = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    songs: Path
    """A folder of songs, such as a test split."""
    model: str = DEFAULT_MODEL
    limit: int = 4
    seconds: float = 12.0
    """Of each song, from its middle."""
    lookaheads: tuple[float, ...] = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8)
    """Seconds."""
    windows: tuple[float, ...] = (0.75, 1.5, 3.0)
    """Seconds; most of it is past."""
    hops: tuple[float, ...] = (0.1, 0.5)
    """Seconds; those of `live_plan`."""
    steps: tuple[int, ...] = (0, 1)
    threads: int = 0
    json: Path | None = None
    """Where to write the figures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    window_s: float
    lookahead_s: float
    hop_s: float
    steps: int
    latency_s: float | None
    """None where the machine is too slow for it."""
    cost: float
    loss_db: float


def plan_of(card: ModelCard, hop_s: float) -> LivePlan:
    plans = plan_without_deadlines(card, sample_rate_hz=RATE_HZ, channels=2, block_samples=BLOCK)
    return next(plan for plan in plans if plan.hop_samples == round(hop_s * RATE_HZ))


def live_stems(pipeline: Pipeline, plan: LivePlan, steps: int, song_CN: Audio) -> tuple[Audio, float, float]:
    """The song's live stems, CPU seconds, and seconds of a window."""
    session = LiveSession(plan, pipeline.card.name, SeparationSettings(steps, 0))
    windows = session.feed(0, song_CN, 0.0) + session.finish()
    cpu, began = time.process_time(), time.perf_counter()
    parts: list[Audio] = []
    for window in windows:
        out = session.accept(window, pipeline.run(window.request))
        parts += [item.stems_SCN for item in out if isinstance(item, LiveStems)]
    took = time.perf_counter() - began
    return np.concatenate(parts, axis=-1), time.process_time() - cpu, took / len(windows)


def quality(stems: Sequence[str], truth_SCN: Audio, estimate_SCN: Audio) -> list[float]:
    """SI-SDR of every chunk and stem in dB."""
    return [
        si_sdr(estimate_SCN[index][:, part], truth_SCN[index][:, part])
        for part in audible_chunks(truth_SCN, RATE_HZ)
        for index, stem in enumerate(stems)
        if stem in JUDGED and not is_silent(truth_SCN[index][:, part])
    ]


def measured(arguments: Arguments) -> list[Row]:
    model, rows = local_model(arguments.model), []
    songs = songs_of(arguments, model.card.stems)
    for steps in arguments.steps:
        settings = SeparationSettings(steps, 0)
        offline = song_separator(Pipeline(model.network, model.card, model.device), model.card, settings)
        best = np.mean([value for song in songs for value in quality(model.card.stems, song, offline(song.sum(0)))])
        for length_s, lookahead_s, hop_s in itertools.product(arguments.windows, arguments.lookaheads, arguments.hops):
            card = replace(
                model.card,
                live_window_samples=round(length_s * model.card.sample_rate_hz),
                live_lookahead_samples=round(lookahead_s * model.card.sample_rate_hz),
            )
            pipeline, plan = Pipeline(model.network, card, model.device), plan_of(card, hop_s)
            values: list[float] = []
            cpu_s = window_s = seconds = 0.0
            for truth_SCN in songs:
                stems_SCN, used_s, window_s = live_stems(pipeline, plan, steps, truth_SCN.sum(0))
                values += quality(card.stems, truth_SCN, stems_SCN)
                cpu_s, seconds = cpu_s + used_s, seconds + truth_SCN.shape[-1] / RATE_HZ
            rows.append(
                Row(
                    window_s=length_s,
                    lookahead_s=lookahead_s,
                    hop_s=hop_s,
                    steps=steps,
                    latency_s=latency_s(card, hop_s, window_s),
                    cost=cpu_s / seconds,
                    loss_db=float(best - np.mean(values)),
                )
            )
            print(rows[-1], flush=True)
    return rows


def songs_of(arguments: Arguments, stems: Sequence[str]) -> list[Audio]:
    """(S, 2, N) each."""
    pool, length = StemPool(arguments.songs, tuple(stems), RATE_HZ, limit=arguments.limit), arguments.seconds * RATE_HZ
    found = []
    for track_SNC in pool.tracks:
        start = max(0, (track_SNC.shape[1] - round(length)) // 2)
        found.append(as_audio(track_SNC[:, start : start + round(length)], 2))
    return found


def latency_s(card: ModelCard, hop_s: float, window_s: float) -> float | None:
    """By the server's own plan, with that hop; None where a window takes too much of it."""
    plan = plan_of(card, hop_s)
    try:
        smallest = plan_live(
            card,
            sample_rate_hz=RATE_HZ,
            channels=2,
            block_samples=BLOCK,
            costs=LiveCosts(window_s=window_s, blocking_s=0.0),
            max_latency_s=None,
        )
    except LatencyNotPossible:
        return None
    if smallest.hop_samples > plan.hop_samples:
        return None
    return (smallest.latency_samples - smallest.hop_samples + plan.hop_samples) / RATE_HZ


def show(rows: Sequence[Row], arguments: Arguments) -> None:
    table = Table(title=f"{arguments.model} live, {machine()}", title_justify="left")
    for column in ("window", "look-ahead", "hop", "steps", "latency", "CPU s per s", "loss against a bounce"):
        table.add_column(column, justify="right")
    for row in rows:
        latency = "too slow" if row.latency_s is None else f"{1000 * row.latency_s:.0f} ms"
        table.add_row(
            f"{row.window_s:g} s",
            f"{1000 * row.lookahead_s:.0f} ms",
            f"{1000 * row.hop_s:.0f} ms",
            str(row.steps),
            latency,
            f"{row.cost:.2f}",
            f"{row.loss_db:.2f} dB",
        )
    Console(width=120).print(table)
    held = [row for row in rows if row.latency_s is not None and row.loss_db < 1]
    if held:
        least = min(held, key=lambda row: row.latency_s or 0.0)
        print(f"smallest latency that costs less than 1 dB: {1000 * (least.latency_s or 0):.0f} ms ({least})")


def main(arguments: Arguments) -> None:
    keep_freed_memory()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    rows = measured(arguments)
    show(rows, arguments)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps([{name: getattr(row, name) for name in Row.__slots__} for row in rows]))


if __name__ == "__main__":
    main(tyro.cli(Arguments))
