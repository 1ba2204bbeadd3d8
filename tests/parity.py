"""Replays trees of golden vectors: `python tests/parity.py DIR...`.

Kinds of folders are read from their config.json, metric and schedule files are known by their names. One line a case
with its error and its tolerance; exit code 1 if any is over.
"""

# ruff: noqa: E402  (the script is run from anywhere, so it says first where its own modules and the package are)

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1])]

import golden_bs_roformer
import golden_full_size
import golden_metrics
import golden_msdm
import golden_unet
from golden_report import Report, Vectors
from golden_samplers import COEFFICIENT_TOLERANCE

from pyserver.diffusion import schedules

Replay = Callable[[Path, str, Report], None]


def replay_schedules(path: Path, name: str, report: Report) -> None:
    """`<name>` with `<name>.args = [n, sigma_min, sigma_max, rho]`; the name says which kind of schedule it is."""
    vectors = Vectors(path)
    for schedule in (match.group(1) for match in vectors.matching(r"(.+)\.args")):
        make: Callable[[int, float, float, float], Tensor]
        points, sigma_min, sigma_max, rho = vectors[f"{schedule}.args"].tolist()
        if re.search(r"(^|_)distillation_grid", schedule):
            make = schedules.distillation_grid
        elif re.search(r"(^|_)consistency_", schedule):
            make = schedules.consistency_schedule
        elif re.search(r"(^|_)(diffusion|msdm|heun)_", schedule):
            make = schedules.diffusion_schedule
        else:
            report.later(f"{name} {schedule}", "a schedule of no known kind")
            continue
        got = make(int(points), sigma_min, sigma_max, rho)
        report.compare(f"{name} {schedule}", got, vectors[schedule], COEFFICIENT_TOLERANCE, relative=True)


BACKBONES: dict[str, Replay] = {
    "unet": golden_unet.replay,
    "bs_roformer": golden_bs_roformer.replay,
    "msdm": golden_msdm.replay,
}
FILES: dict[str, Replay] = {
    "schedules.npz": replay_schedules,
    "checkpoint_keys.json": golden_full_size.replay,
    "msdm_metrics.npz": golden_metrics.replay_msdm,
    "refiner_metrics.npz": golden_metrics.replay_refiner,
}


def find_cases(root: Path) -> list[tuple[Path, str, Replay | None]]:
    """(path, name in the report, how to replay it) of all folders and files of a tree; None: no known kind."""
    cases: list[tuple[Path, str, Replay | None]] = []
    for path in sorted([root, *root.rglob("*")]):
        name = str(path.relative_to(root)) if path != root else root.resolve().name
        if path.name in FILES:
            cases.append((path, name, FILES[path.name]))
        elif path.name == "config.json":
            config = json.loads(path.read_text(encoding="utf-8"))
            folder = str(path.parent.relative_to(root)) if path.parent != root else root.resolve().name
            cases.append((path.parent, folder, BACKBONES.get(config.get("backbone", ""))))
    return cases


def run(root: Path) -> Report:
    report = Report()
    cases = find_cases(root)
    if not cases:
        report.fail(str(root), "there are no golden vectors here")
    for path, name, replay in cases:
        if replay is None:
            report.fail(name, "config.json names no known backbone")
            continue
        try:
            with torch.no_grad():
                replay(path, name, report)
        except (KeyError, IndexError, ValueError, RuntimeError, OSError, StopIteration) as error:
            # a network that does not fit its weights, or a file that lacks an array: that folder has failed
            report.fail(name, " ".join(f"{type(error).__name__}: {error}".split())[:300])
    return report


def main(arguments: list[str]) -> int:
    if not arguments:
        print(__doc__)
        return 2
    reports = [run(Path(argument)) for argument in arguments]
    passed, failed, later = (sum(getattr(r, f) for r in reports) for f in ("passed", "failed", "not_yet"))
    print(f"\n{passed} passed, {failed} failed, {later} not yet replayed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
