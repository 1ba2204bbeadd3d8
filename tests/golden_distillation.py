"""Replays what a recorded distillation step visits: grid, noisy input, the teacher's walk, estimate and target."""

from dataclasses import dataclass

import torch
from golden_report import Report, Vectors
from golden_samplers import COEFFICIENT_TOLERANCE

from pyserver.diffusion.samplers import Denoiser, heun_step
from pyserver.diffusion.scalings import per_item


@dataclass(frozen=True, slots=True)
class Networks:
    """Student and target with consistency coefficients, the teacher with EDM coefficients; none clamps."""

    student: Denoiser
    target: Denoiser
    teacher: Denoiser


@dataclass(frozen=True, slots=True)
class Step:
    """One case of a cd_loss file and what its tensors may differ by."""

    file: str
    case: str
    vectors: Vectors
    report: Report
    tolerance: float
    walk_tolerance: float


def cases(vectors: Vectors) -> list[str]:
    return [match.group(1) for match in vectors.matching(r"(.+)\.indices")]


def replay_probabilities(file: str, vectors: Vectors, report: Report) -> None:
    """The number of Heun steps is drawn with a probability proportional to itself."""
    wanted = vectors.get("heun_step_probability")
    if wanted is None:
        return
    steps = torch.arange(1, len(wanted) + 1, dtype=torch.float64)
    name = f"{file} heun_step_probability"
    report.compare(name, steps / steps.sum(), wanted, COEFFICIENT_TOLERANCE, relative=True)


def replay(step: Step, networks: Networks) -> None:
    """Cases that store no `x_start` can only be held against the grid."""
    vectors, grid = step.vectors, step.vectors["t_grid"].float()
    indices, heun_steps = vectors[f"{step.case}.indices"], int(vectors[f"{step.case}.num_heun_steps"])
    t, t_dt = grid[indices], grid[indices + heun_steps]
    for name, got in (("t", t), ("t_dt", t_dt)):
        wanted = vectors[f"{step.case}.{name}"]
        case = f"{step.file} {step.case}.{name}"
        step.report.compare(case, got, wanted, COEFFICIENT_TOLERANCE, relative=True)
    if f"{step.case}.x_start" not in vectors:
        return
    x_start, noise = vectors[f"{step.case}.x_start"], vectors[f"{step.case}.noise_cd"]
    x_t = x_start + per_item(t, noise) * noise
    walked = x_t
    for k in range(heun_steps):
        walked = heun_step(networks.teacher, walked, grid[indices + k], grid[indices + k + 1])
    stored_walk = vectors[f"{step.case}.x_t_dt_after_heun"]
    found = {
        "x_t": (x_t, step.tolerance),
        "estimate": (networks.student(x_t, t), step.tolerance),
        "x_t_dt_after_heun": (walked, step.walk_tolerance),
        "target": (networks.target(stored_walk, t_dt), step.tolerance),
    }
    for name, (got, tolerance) in found.items():
        step.report.compare(f"{step.file} {step.case}.{name}", got, vectors.get(f"{step.case}.{name}"), tolerance)
