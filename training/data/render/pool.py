"""Many tracks at once: a pool of processes that fills a split with tracks, in any order, resuming what is there."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from threading import Thread

from .songs import OwnSongs
from .track import SPLITS, remove_leftovers, write_track, written_seconds


@dataclass(frozen=True, kw_only=True, slots=True)
class RenderConfig:
    out: Path
    split: str
    hours: float
    seed: int
    workers: int
    first_index: int = 0
    own: OwnSongs | None = None

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise ValueError(f"split is one of {', '.join(SPLITS)}, not {self.split!r}")
        if self.hours <= 0 or self.workers < 1:
            raise ValueError("hours and workers must be positive")


def _begin_worker() -> None:
    """One thread for arithmetic, and an end when the renderer's end comes: killed, it cannot tell its workers."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    Thread(target=follow, daemon=True).start()


def render_split(config: RenderConfig) -> Iterator[tuple[int, float]]:
    """Yields (index, seconds) as tracks come into being, in any order, until `hours` are there.

    Tracks that exist already count and are not rendered again.
    """
    wanted, have = config.hours * 3600.0, 0.0
    indices = count(config.first_index)
    remove_leftovers(config.out / config.split)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(config.workers, mp_context=context, initializer=_begin_worker) as pool:
        running: dict[Future[float], int] = {}
        while have < wanted or running:
            while have < wanted and len(running) < config.workers:
                index = next(indices)
                existing = written_seconds(config.out, config.split, index)
                if existing is None:
                    job = pool.submit(write_track, config.out, config.seed, config.split, index, config.own)
                    running[job] = index
                else:
                    have += existing
            if not running:
                break
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                seconds = done.result()
                have += seconds
                yield running.pop(done), seconds
