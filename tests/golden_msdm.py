"""Replays a golden folder of MSDM and ISDM: the denoisers, and recorded runs of every sampler."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from golden_report import Report, Vectors
from golden_samplers import COEFFICIENT_TOLERANCE, Recorder
from safetensors.torch import load_file
from torch import Tensor

from pyserver.diffusion import joint, posteriors
from pyserver.diffusion.samplers import Denoiser, clamped
from pyserver.diffusion.scalings import per_item
from pyserver.diffusion.schedules import diffusion_schedule
from pyserver.models.msdm import IndependentSources, JointSources, MsdmConfig

TOLERANCE = 1e-4


class MsdmFolder:
    """One network over all sources, one network for each, and the closed form that stands in for both."""

    def __init__(self, folder: Path, name: str, report: Report) -> None:
        self.config: Mapping[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self.folder, self.name, self.report = folder, name, report
        self.vectors = Vectors(folder / "io.npz")
        stems, sigma_data = len(self.config["stems"]), float(self.config["diffusion"]["sigma_data"])
        settings = {kind: self.config[kind]["model"] for kind in ("msdm", "isdm")}
        self.joint = JointSources(MsdmConfig(network=settings["msdm"], stems=stems, sigma_data=sigma_data))
        self.independent = IndependentSources(MsdmConfig(network=settings["isdm"], stems=stems, sigma_data=sigma_data))
        _load(self.joint, folder / "msdm.safetensors", r"model\.unet\.", "network.")
        _load(self.independent, folder / "isdm.safetensors", r"(\d+)\.model\.unet\.", r"networks.\1.")

    def denoiser(self, run: str) -> Denoiser:
        """The one that a run's name asks for, as published held within [-1, 1]."""
        if run.startswith("analytic"):
            return clamped(gaussian_denoiser(self.vectors["analytic.variances"]))
        return clamped((self.independent if run.startswith("isdm") else self.joint).denoise)

    def replay(self) -> None:
        self._replay_denoisers()
        for match in self.vectors.matching(r"(.+)\.sigmas"):
            self._replay_run(match.group(1))
        self.report.leftovers(f"{self.name}/io", self.vectors)

    def compare(self, case: str, got: Tensor) -> None:
        self.report.compare(f"{self.name}/io {case}", got, self.vectors[case], TOLERANCE)

    def coefficient(self, case: str, got: Tensor) -> None:
        self.report.compare(f"{self.name}/io {case}", got, self.vectors[case], COEFFICIENT_TOLERANCE, relative=True)

    def _replay_denoisers(self) -> None:
        x = self.vectors["denoise.x"]
        for match in self.vectors.matching(r"denoise\.sigma([\d.]+)"):
            self.compare(match.group(), clamped(self.joint.denoise)(x, torch.full((len(x),), float(match.group(1)))))
        for match in self.vectors.matching(r"denoise_isdm(\d+)\.sigma([\d.]+)"):
            every = clamped(self.independent.denoise)(x, torch.full((len(x),), float(match.group(2))))
            source = int(match.group(1))
            self.compare(match.group(), every[:, source : source + 1])

    def _replay_run(self, run: str) -> None:
        vectors, sigmas = self.vectors, self.vectors[f"{run}.sigmas"]
        churn, corrections = float(vectors[f"{run}.s_churn"]), int(vectors[f"{run}.num_resamples"])
        self._replay_schedule(run, sigmas)
        recorder, stepping = Recorder(self.denoiser(run)), joint.Stepping(corrections=corrections, churn=churn)
        draws = iter(vectors[f"{run}.draws"])
        output = self._sample(run, recorder, sigmas, draws, stepping)
        if (left := len(list(draws))) > 0:
            self.report.fail(f"{self.name}/io {run}", f"{left} recorded draws were not used")
        if vectors[f"{run}.nfe_sigmas"].numel():  # not recorded where several networks are asked
            self.coefficient(f"{run}.nfe_sigmas", torch.stack([sigma_B[0] for _, sigma_B, _ in recorder.calls]))
        for match in vectors.matching(rf"{re.escape(run)}\.nfe(\d+)\.x"):
            x, _, denoised = recorder.calls[int(match.group(1))]
            self.compare(match.group(), x)
            self.compare(match.group().removesuffix("x") + "denoised", denoised)
        self.compare(f"{run}.output", output)

    def _replay_schedule(self, run: str, sigmas: Tensor) -> None:
        """Between its own end points, with the rho of the configuration."""
        generates = "generate" in run or f"{run}.mask" in self.vectors
        settings = self.config["schedule_generation" if generates else "schedule_separation"]
        highest, lowest = (float(f"{float(level):.6g}") for level in (sigmas[0], sigmas[-2]))
        self.coefficient(f"{run}.sigmas", diffusion_schedule(len(sigmas) - 1, lowest, highest, float(settings["rho"])))

    def _sample(
        self, run: str, denoise: Denoiser, sigmas: Tensor, draws: Iterator[Tensor], stepping: joint.Stepping
    ) -> Tensor:
        vectors = self.vectors
        if f"{run}.mask" in vectors:
            known = joint.Known(vectors["sources"], vectors[f"{run}.mask"])
            return joint.impute(denoise, known, sigmas, draws, stepping)
        if f"{run}.source_id" not in vectors and f"{run}.gamma" not in vectors:
            return joint.generate(denoise, sigmas, draws, stepping)
        mixture = vectors["short_mixture" if run.endswith("_T150") else "mixture"]
        if f"{run}.gamma" in vectors:
            slope = posteriors.gaussian(denoise, mixture, float(vectors[f"{run}.gamma"]))
        else:
            slope = posteriors.dirac(denoise, mixture, int(vectors[f"{run}.source_id"]))
        return joint.separate(slope, sigmas, draws, stepping)


def gaussian_denoiser(variances_S: Tensor) -> Denoiser:
    """The exact denoiser of independent Gaussian sources."""

    def denoise(x: Tensor, sigma_B: Tensor) -> Tensor:
        variance = variances_S.to(x)[None, :, None]
        return variance / (variance + per_item(sigma_B.square(), x)) * x

    return denoise


def _load(network: torch.nn.Module, path: Path, theirs: str, ours: str) -> None:
    """Strictly, with the published names' prefix replaced by ours."""
    state = {re.sub("^" + theirs, ours, key): tensor for key, tensor in load_file(path).items()}
    network.load_state_dict(state, strict=True)
    network.eval()


def replay(folder: Path, name: str, report: Report) -> None:
    MsdmFolder(folder, name, report).replay()
