"""Replays recorded sampler runs: the draws are fed in their order, every network call is compared."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from golden_report import Report, Vectors
from torch import Tensor

from pyserver.diffusion import samplers
from pyserver.diffusion.schedules import consistency_schedule, diffusion_schedule

COEFFICIENT_TOLERANCE = 1e-6


@dataclass
class Recorder:
    """A denoiser that remembers its calls."""

    denoise: samplers.Denoiser
    calls: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)

    def __call__(self, x: Tensor, sigma_B: Tensor) -> Tensor:
        denoised = self.denoise(x, sigma_B)
        self.calls.append((x, sigma_B, denoised))
        return denoised


@dataclass(frozen=True)
class Replay:
    """Where a sampler file belongs and what its results may differ by."""

    name: str
    vectors: Vectors
    report: Report
    tolerance: float


def runs(vectors: Vectors) -> list[str]:
    return [match.group(1) for match in vectors.matching(r"(.+)\.sigmas")]


def replay_consistency(replay: Replay, denoise: samplers.Denoiser, x_det: Tensor, sampling: Mapping[str, Any]) -> None:
    for run in runs(replay.vectors):
        sigmas = replay.vectors[f"{run}.sigmas"]
        schedule = consistency_schedule(
            len(sigmas) - 2, sampling["cd_sigma_min"], sampling["cd_sigma_max"], sampling["cd_rho"]
        )
        _coefficient(replay, f"{run}.sigmas", schedule)
        recorder, draws = Recorder(denoise), _draws(replay.vectors, run, r"renoise\d+")
        output = samplers.consistency_multistep(recorder, x_det, sigmas, draws)
        _compare_run(replay, run, recorder, output, draws)


def replay_edm(replay: Replay, denoise: samplers.Denoiser, x_det: Tensor, sampling: Mapping[str, Any]) -> None:
    for run in runs(replay.vectors):
        sigmas = replay.vectors[f"{run}.sigmas"]
        schedule = diffusion_schedule(
            len(sigmas) - 1, sampling["dm_sigma_min"], sampling["dm_sigma_max"], sampling["dm_rho"]
        )
        _coefficient(replay, f"{run}.sigmas", schedule)
        churn = float(replay.vectors[f"{run}.s_churn"])
        gamma = min(churn / (len(sigmas) - 1), samplers.MAX_CHURN_GAMMA)
        _coefficient(replay, f"{run}.gamma", torch.tensor(gamma, dtype=torch.float64))
        # natural order puts "churn_noise" before "renoise" within a step and correction, which is the order drawn
        recorder, draws = Recorder(denoise), _draws(replay.vectors, run, r"step\d+\.r\d+\.(?:churn_noise|renoise)")
        corrections = int(replay.vectors[f"{run}.num_resamples"])
        output = samplers.edm_stochastic(recorder, x_det, sigmas, draws, corrections=corrections, churn=churn)
        _compare_run(replay, run, recorder, output, draws)


def replay_heun(replay: Replay, denoise: samplers.Denoiser, x_det: Tensor) -> None:
    for run in runs(replay.vectors):
        sigmas, churn = replay.vectors[f"{run}.sigmas"], float(replay.vectors[f"{run}.s_churn"])
        recorder, draws = Recorder(denoise), _draws(replay.vectors, run, r"churn_noise\d+")
        output = samplers.heun(recorder, x_det, sigmas, draws, churn=churn)
        _compare_run(replay, run, recorder, output, draws)


def _draws(vectors: Vectors, run: str, later: str) -> Iterator[Tensor]:
    names = [f"{run}.init_noise", *(match.group() for match in vectors.matching(rf"{re.escape(run)}\.{later}"))]
    return iter([vectors[name] for name in names])


def _coefficient(replay: Replay, name: str, got: Tensor) -> None:
    case = f"{replay.name} {name}"
    replay.report.compare(case, got, replay.vectors[name], COEFFICIENT_TOLERANCE, relative=True)


def _compare_run(replay: Replay, run: str, recorder: Recorder, output: Tensor, draws: Iterator[Tensor]) -> None:
    vectors, report = replay.vectors, replay.report
    if (left := len(list(draws))) > 0:
        report.fail(f"{replay.name} {run}", f"{left} recorded draws were not used")
    if f"{run}.nfe_sigmas" in vectors:
        visited = torch.stack([sigma_B[0] for _, sigma_B, _ in recorder.calls])
        _coefficient(replay, f"{run}.nfe_sigmas", visited)
    for match in vectors.matching(rf"{re.escape(run)}\.nfe(\d+)\.x"):
        call, stem = int(match.group(1)), f"{run}.nfe{match.group(1)}"
        if call >= len(recorder.calls):
            report.fail(f"{replay.name} {stem}", f"only {len(recorder.calls)} evaluations were made")
            continue
        x, sigma_B, denoised = recorder.calls[call]
        _coefficient(replay, f"{stem}.sigma", sigma_B[:1].expand(vectors[f"{stem}.sigma"].numel()))
        report.compare(f"{replay.name} {stem}.x", x, vectors[f"{stem}.x"], replay.tolerance)
        report.compare(f"{replay.name} {stem}.denoised", denoised, vectors[f"{stem}.denoised"], replay.tolerance)
    report.compare(f"{replay.name} {run}.output", output.clamp(-1, 1), vectors[f"{run}.output"], replay.tolerance)
