"""Renders a split: `python -m training.data.render --out DIR --split train --hours 3 --seed 1 --workers 2`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from .manifest import write_manifest
from .pool import RenderConfig, render_split
from .songs import OwnSongs
from .track import SPLITS, written_minutes


def parsed(arguments: Sequence[str] | None) -> RenderConfig:
    parser = argparse.ArgumentParser(prog="python -m training.data.render", description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--split", choices=tuple(SPLITS), required=True)
    parser.add_argument("--hours", type=float, required=True, help="how much the split has in the end")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--first-index", type=int, default=0, help="to share a split among machines")
    parser.add_argument("--midi", type=Path, help="a folder of your own MIDI files, beside the installed songs")
    parser.add_argument("--midi-licence", default="own", help="what the manifest says of them")
    given = vars(parser.parse_args(arguments))
    midi, licence = given.pop("midi"), given.pop("midi_licence")
    try:
        return RenderConfig(own=OwnSongs(midi.resolve(), licence) if midi else None, **given)
    except (ValueError, NotADirectoryError) as error:
        parser.error(str(error))


def main(arguments: Sequence[str] | None = None) -> int:
    config = parsed(arguments)
    # as Ctrl-C: the tracks under way are finished and the manifest is written
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    console, began, total = Console(stderr=True), time.monotonic(), 0.0
    minutes = TextColumn("{task.completed:.1f} of {task.total:.1f} min")
    columns = (TextColumn("{task.description}"), BarColumn(), minutes, TimeRemainingColumn())
    folder = config.out / config.split
    try:
        with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
            there = written_minutes(config.out, config.split, config.first_index)
            bar = progress.add_task(config.split, total=config.hours * 60)
            progress.update(bar, completed=there)
            for index, seconds in render_split(config):
                total += seconds
                speed = total / (time.monotonic() - began)
                progress.update(bar, advance=seconds / 60, description=f"{config.split}, {speed:.1f}x real time")
                if not console.is_terminal:
                    print(f"{config.split} Track{index:05d} {seconds:5.1f} s, {total / 60:6.1f} min new, "
                          f"{speed:4.1f}x real time", file=sys.stderr, flush=True)  # fmt: skip
    finally:
        if folder.is_dir():
            print(write_manifest(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
