"""Replays the metric files: the MSDM protocol and DiCoSe's published evaluation."""

import re
from pathlib import Path

import numpy as np
import torch
from golden_report import Report, Vectors

from training import metrics

DECIBEL_TOLERANCE = 1e-4
CHUNK_S = 4


def replay_msdm(path: Path, name: str, report: Report) -> None:
    vectors = Vectors(path)
    references, estimates = vectors["reference"].numpy(), vectors["estimate"].numpy()
    rate = int(vectors["sample_rate"])

    def compare(case: str, got: object, tolerance: float = DECIBEL_TOLERANCE) -> None:
        wanted = vectors.get(case)
        report.compare(f"{name} {case}", torch.as_tensor(np.asarray(got)), wanted, tolerance)

    for kind, drop_lonely in (("filtered", True), ("unfiltered", False)):
        if f"{kind}.start_sample" not in vectors:
            continue
        scores = metrics.msdm_scores(estimates[:, None], references[:, None], rate, drop_lonely=drop_lonely)
        starts = np.array([part.start for part in scores.parts])
        compare(f"{kind}.start_sample", starts, 0.0)
        compare(f"{kind}.end_sample", starts + CHUNK_S * rate, 0.0)  # nominal: the last chunk may be shorter
        compare(f"{kind}.si_sdr_improvement", scores.improvement_SK)
        compare(f"{kind}.mean_per_stem", scores.improvement_SK.mean(1))
        compare(f"{kind}.mean", scores.improvement_SK.mean())
    pairs, mixture = list(zip(estimates, references, strict=True)), references.sum(0)
    compare("full.si_sdr", [metrics.si_sdr(*pair) for pair in pairs])
    compare("full.sdr", [metrics.sdr(*pair) for pair in pairs])
    compare("full.si_sdr_of_mixture", [metrics.si_sdr(mixture, reference) for reference in references])
    no_mean_removal = [metrics.si_sdr(*pair, metrics.FLOAT32_EPSILON) for pair in pairs]
    compare("full.si_sdr_no_mean_removal_torchmetrics", no_mean_removal)
    compare("full.si_snr_mean_removed_torchmetrics", [metrics.si_snr(*pair) for pair in pairs])
    if "edge.noise" in vectors:
        noise = vectors["edge.noise"].numpy()
        nothing = np.zeros_like(noise)
        edges = [(nothing, nothing), (noise, nothing), (nothing, noise), (noise, noise), (-noise, noise)]
        compare("edge.si_sdr", [metrics.si_sdr(*pair) for pair in edges])
    for match in vectors.matching(r"edge\.is_silent_n(\d+)"):
        constants = [np.full(int(match.group(1)), amplitude) for amplitude in vectors["edge.is_silent_amplitudes"]]
        compare(match.group(), [metrics.is_silent(constant) for constant in constants], 0.0)
    report.leftovers(name, vectors)


def replay_refiner(path: Path, name: str, report: Report) -> None:
    vectors = Vectors(path)
    rate, length = int(vectors["sample_rate"]), int(vectors["length"])
    references = vectors["reference"][..., :length].numpy()
    estimates = vectors["estimate"][..., :length].numpy()

    def compare(case: str, got: list[float]) -> None:
        report.compare(f"{name} {case}", torch.tensor(got, dtype=torch.float64), vectors.get(case), DECIBEL_TOLERANCE)

    for kind, include_silent in (("include_silent", True), ("exclude_silent", False)):
        stems = _stems(vectors, kind, len(references[0]))
        if not stems:
            continue
        items = [
            metrics.refiner_scores(estimate, reference, rate, include_silent=include_silent)
            for estimate, reference in zip(estimates, references, strict=True)
        ]
        for index, stem in enumerate(stems):
            for metric in metrics.REFINER_METRICS:
                compare(f"{kind}.{stem}.{metric}", [value for item in items for value in item[index][metric]])
        improvements = [[value for item in items for value in item[k]["msdm_si_sdr"]] for k in range(len(stems))]
        compare(f"{kind}.average_over_stems_of_mean", [metrics.mean_over_stems(improvements)])
    stems = _stems(vectors, "silent_frames", len(references[0]))
    if stems:
        scores = metrics.silent_frame_scores(estimates[0], references[0], rate)
        for stem, score in zip(stems, scores, strict=True):
            for metric, values in score.items():
                compare(f"silent_frames.{stem}.{metric}", values)
    report.leftovers(name, vectors)


def _stems(vectors: Vectors, kind: str, count: int) -> list[str]:
    """Their names as the file has them one after another, which is the order of the signals' axis; [] for none."""
    matches = vectors.matching(rf"{re.escape(kind)}\.([^.]+)\.[^.]+", in_file_order=True)
    names = list(dict.fromkeys(match.group(1) for match in matches))
    if names and len(names) != count:
        raise ValueError(f"{kind} has {len(names)} stems, the signals have {count}")
    return names
