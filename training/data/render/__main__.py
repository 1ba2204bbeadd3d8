"""Renders a split: `python -m training.data.render --out DIR --split train --hours 3 --seed 1 --workers 2`."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from .pool import RenderConfig, render_split
from .track import SPLITS


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m training.data.render", description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--split", choices=tuple(SPLITS), required=True)
    parser.add_argument("--hours", type=float, required=True, help="how much the split has in the end")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--first-index", type=int, default=0, help="to share a split among machines")
    config = RenderConfig(**vars(parser.parse_args(arguments)))
    began, total = time.monotonic(), 0.0
    for index, seconds in render_split(config):
        total += seconds
        speed = total / (time.monotonic() - began)
        print(f"{config.split} Track{index:05d} {seconds:5.1f} s, {total / 60:6.1f} min new, {speed:4.1f}x real time",
              file=sys.stderr, flush=True)  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
