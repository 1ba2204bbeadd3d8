"""Replays recorded training losses: score matching, a distillation step with all that it visits, and the average."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from golden_report import Report, Vectors
from golden_samplers import COEFFICIENT_TOLERANCE
from torch import Tensor, nn

from pyserver.diffusion.samplers import Denoiser
from training.dicose_objectives import (
    Distilled,
    ErrorKind,
    MultiResolutionConfig,
    Noising,
    WaveformError,
    consistency_error,
    heun_step_chances,
    score_matching_error,
    teacher_walk,
    total_loss,
)
from training.loop import update_average

LOSS_TOLERANCE = 1e-4
AVERAGE_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True)
class Step:
    """One case of a cd_loss file and what its tensors may differ by."""

    file: str
    case: str
    vectors: Vectors
    report: Report
    tolerance: float
    walk_tolerance: float

    def __getitem__(self, name: str) -> Tensor:
        return self.vectors[f"{self.case}.{name}"]

    def compare(self, name: str, got: Tensor, tolerance: float, *, relative: bool = False) -> None:
        wanted = self.vectors.get(f"{self.case}.{name}")
        self.report.compare(f"{self.file} {self.case}.{name}", got, wanted, tolerance, relative=relative)


@dataclass(frozen=True, slots=True)
class Judged:
    """How a step is judged: the student with EDM coefficients for its score, and the error."""

    score: Denoiser
    sigma_data: float
    error: WaveformError


def cases(vectors: Vectors) -> list[str]:
    return [match.group(1) for match in vectors.matching(r"(.+)\.indices")]


def network_resolutions(settings: Mapping[str, Any]) -> MultiResolutionConfig:
    """As a BS-RoFormer's settings say, for the separator's loss and the diffusion refiner's."""
    sizes, hop = settings.get("multi_stft_resolutions_window_sizes"), settings.get("multi_stft_hop_size")
    default = MultiResolutionConfig()
    return MultiResolutionConfig(
        window_samples=tuple(sizes) if sizes else default.window_samples,
        hop_samples=hop or default.hop_samples,
        min_n_fft=settings["stft_n_fft"],
        weight=settings.get("multi_stft_resolution_loss_weight", default.weight),
    )


def error_named(case: str, resolutions: MultiResolutionConfig | None = None) -> WaveformError:
    """A case's name says whether its error is the plain squared one or the published one of BS-RoFormer."""
    kind = ErrorKind.L1_AND_SPECTRAL if "bsroformer" in case else ErrorKind.SQUARED
    return kind.function(resolutions)


def replay_probabilities(file: str, vectors: Vectors, report: Report) -> None:
    """The number of Heun steps is drawn with a probability proportional to itself."""
    wanted = vectors.get("heun_step_probability")
    if wanted is not None:
        name, got = f"{file} heun_step_probability", heun_step_chances(len(wanted) + 1)
        report.compare(name, got, wanted, COEFFICIENT_TOLERANCE, relative=True)


def replay(step: Step, networks: Distilled, judged: Judged, usual_start: Tensor | None) -> None:
    """Cases that store no `x_start` begin where all others of the folder do, at `usual_start`."""
    vectors, grid = step.vectors, step.vectors["t_grid"].float()
    indices, heun_steps = step["indices"], int(step["num_heun_steps"])
    t, t_dt = grid[indices], grid[indices + heun_steps]
    step.compare("t", t, COEFFICIENT_TOLERANCE, relative=True)
    step.compare("t_dt", t_dt, COEFFICIENT_TOLERANCE, relative=True)
    start = vectors.get(f"{step.case}.x_start")
    start = usual_start if start is None else start
    if start is None or f"{step.case}.noise_cd" not in vectors:
        return
    noising = Noising(start, t, step["noise_cd"])
    step.compare("x_t", noising.noisy, step.tolerance)
    walked = teacher_walk(networks.teacher, noising.noisy, grid, indices, heun_steps)
    step.compare("x_t_dt_after_heun", walked, step.walk_tolerance)
    step.compare("estimate", networks.student(noising.noisy, t), step.tolerance)
    stored_walk = vectors.get(f"{step.case}.x_t_dt_after_heun")
    step.compare("target", networks.target(walked if stored_walk is None else stored_walk, t_dt), step.tolerance)
    matching = consistency_error(networks, noising, grid, indices, heun_steps, judged.error)
    step.compare("consistency_loss_per_example", matching, LOSS_TOLERANCE, relative=True)
    if f"{step.case}.noise_dsm" not in vectors:
        return
    clean = vectors.get(f"{step.case}.clean_target")
    noised = Noising(start, step["dsm_sigmas"], step["noise_dsm"])
    clean = start if clean is None else clean
    score = score_matching_error(judged.score, noised, clean, judged.sigma_data, judged.error)
    step.compare("dsm_loss_per_example", score, LOSS_TOLERANCE, relative=True)
    for match in vectors.matching(rf"{step.case}\.total_weight_(\d+\.?\d*)"):
        total = total_loss(matching, score, float(match.group(1)))
        step.compare(match.group().removeprefix(f"{step.case}."), total, LOSS_TOLERANCE, relative=True)


def replay_average(file: str, vectors: Vectors, report: Report, target: nn.Module, student: nn.Module) -> None:
    """The target after one update; both names of a network that is registered twice mean the same tensor."""
    decay = vectors.get("ema.decay")
    if decay is None:
        return
    average = copy.deepcopy(target)
    update_average(average, student, float(decay))
    after = average.state_dict()
    for match in vectors.matching(r"ema\.after\.model\.(?:unet|diffusion\.net)\.(.+)"):
        case = f"{file} {match.group()}"
        report.compare(case, after[match.group(1)], vectors[match.group()], AVERAGE_TOLERANCE)


def replay_score_matching(
    file: str, vectors: Vectors, report: Report, denoise: Denoiser, judged_by: tuple[float, WaveformError], case: str
) -> None:
    """`<case>.loss` of one stem, whose noise starts at `x_start` and is compared with `clean_target`."""
    noising = Noising(vectors[f"{case}.x_start"], vectors[f"{case}.sigma"], vectors[f"{case}.noise"])
    clean = vectors.get(f"{case}.clean_target")
    loss = score_matching_error(denoise, noising, noising.start if clean is None else clean, *judged_by).mean()
    report.compare(f"{file} {case}.loss", loss, vectors[f"{case}.loss"], LOSS_TOLERANCE, relative=True)
