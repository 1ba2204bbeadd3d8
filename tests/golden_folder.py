"""Replays a golden folder: the steps that the backbones share. A subclass says what its networks are and are given."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import golden_distillation
import golden_samplers
import torch
from golden_report import Report, Vectors
from golden_samplers import COEFFICIENT_TOLERANCE
from golden_weights import Checkpoints
from torch import Tensor, nn

from pyserver.diffusion.samplers import Denoiser, clamped
from pyserver.diffusion.scalings import (
    ScalingsFunction,
    consistency_scalings,
    edm_loss_weight,
    edm_scalings,
    per_item,
    precondition,
)
from pyserver.diffusion.schedules import distillation_grid
from training.dicose_objectives import Distilled

DIFFUSION = ("diffusion", "model.unet.")
STUDENT = ("cd", "net.model.unet.")
TARGET = ("cd", "target_model.model.unet.")
TEACHER = ("cd", "teacher_model.model.unet.")
DENOISED = {
    "net_denoised": (STUDENT, consistency_scalings),
    "net_denoised_edm_scalings": (STUDENT, edm_scalings),
    "teacher_denoised": (TEACHER, edm_scalings),
    "target_model_denoised": (TARGET, consistency_scalings),
}

Raw = Callable[[Tensor, Tensor], Tensor]
"""F(scaled x, c_noise), the network without its preconditioning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerances:
    """Those of the vectors' own description; `walk` is for what several Heun steps lead to."""

    feature: float
    output: float
    raw: float
    denoised: float
    walk: float
    loud: float


@dataclass(frozen=True, slots=True)
class Given:
    """What a refiner is told besides x and sigma; `class_BK` only where a network separates the class it is told."""

    features: list[Tensor] | None
    class_BK: Tensor | None = None


class GoldenFolder(ABC):
    """One folder: its networks, made when first needed, and its files."""

    tolerances: ClassVar[Tolerances]

    def __init__(self, folder: Path, name: str, report: Report) -> None:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self.folder, self.name, self.report = folder, name, report
        self.settings: Mapping[str, Any] = config["config"]
        self.checkpoints = Checkpoints(folder, config)
        self.sigma_min = float(self.settings.get("consistency", {}).get("sigma_min", 0.0))
        self._networks: dict[tuple[str, str], Any] = {}

    # What differs

    @property
    @abstractmethod
    def sigma_data(self) -> float: ...

    @abstractmethod
    def make(self, stage: str) -> nn.Module:
        """The separator (`det`) or the refiner, without its weights."""

    @abstractmethod
    def start(self, source: Vectors, vectors: Vectors, items: int | None = None) -> tuple[Given, Tensor]:
        """What the refiner is given for the first items of the batch, and the separator's estimate x_det."""

    @abstractmethod
    def raw(self, which: tuple[str, str], given: Given) -> Raw:
        """The refiner of a checkpoint's stage and prefix."""

    def case_raw(self, which: tuple[str, str], given: Given, vectors: Vectors, case: str) -> Raw:
        """The refiner as a case of cd_loss uses it."""
        return self.raw(which, given)

    def usual_start(self, source: Vectors, vectors: Vectors) -> Tensor | None:
        """What noise is added to in cases that store no start of their own."""
        return None

    @abstractmethod
    def replay_separator(self, vectors: Vectors) -> None: ...

    @abstractmethod
    def replay_more_of_diffusion(self, vectors: Vectors, given: Given) -> None: ...

    def replay_more_of_consistency(  # noqa: B027 - not every backbone stores more
        self, vectors: Vectors, given: Given, level: str, x: Tensor
    ) -> None:
        """What only some backbones store for a noise level of cd_io, whose noisy input is `x`."""

    # What is shared

    def network(self, which: tuple[str, str]) -> Any:
        if which not in self._networks:
            network = self.make(which[0])
            self.checkpoints.load(network, *which)
            self._networks[which] = network
        return self._networks[which]

    def denoiser(self, raw: Raw, scalings: ScalingsFunction) -> Denoiser:
        """D(x, sigma), without clamp."""
        return lambda x, sigma: precondition(raw, x, scalings(sigma, self.sigma_data, self.sigma_min))

    def compare(self, file: str, what: str, got: Tensor, want: Tensor | None, tolerance: float) -> None:
        self.report.compare(f"{self.name}/{file} {what}", got, want, tolerance)

    def coefficient(self, file: str, what: str, got: Tensor, want: Tensor | None) -> None:
        self.report.compare(f"{self.name}/{file} {what}", got, want, COEFFICIENT_TOLERANCE, relative=True)

    def replay(self) -> None:
        for stage in self.checkpoints:
            keys, declared = len(self.checkpoints.state(stage)), self.checkpoints.declared_keys(stage)
            self.report.compare(f"{self.name} {stage} keys", torch.tensor(keys), torch.tensor(declared), 0.0)
        if not (self.folder / "det_io.npz").exists():
            self.report.fail(self.name, "det_io.npz is missing: it holds the mixture of all other cases")
            return
        source = Vectors(self.folder / "det_io.npz")
        replays: dict[str, Callable[[Vectors, Vectors], None]] = {
            "det_io": self._det_io,
            "diffusion_io": self._diffusion_io,
            "cd_io": self._cd_io,
            "cd_sampler": self._cd_sampler,
            "edm_sampler": self._edm_sampler,
            "heun_sampler": self._heun_sampler,
            "cd_loss": self._cd_loss,
        }
        for file, replay_file in replays.items():
            if (self.folder / f"{file}.npz").exists():
                vectors = Vectors(self.folder / f"{file}.npz")
                replay_file(vectors, source)
                self.report.leftovers(f"{self.name}/{file}", vectors)

    def compare_features(self, vectors: Vectors, features: list[Tensor], tolerances: list[float]) -> None:
        names = [match.group() for match in vectors.matching(r"feature\d+")]
        if len(names) != len(features):
            self.report.fail(f"{self.name}/det_io features", f"{len(features)} instead of {len(names)}")
        for name, feature, tolerance in zip(names, features, tolerances, strict=False):
            self.compare("det_io", name, feature, vectors.get(name), tolerance)

    def _det_io(self, vectors: Vectors, _: Vectors) -> None:
        self.compare("det_io", "mixture = sum of stems", vectors["stems"].sum(1), vectors["mixture"], 1e-6)
        self.replay_separator(vectors)

    def _diffusion_io(self, vectors: Vectors, source: Vectors) -> None:
        file, x, sigma = "diffusion_io", vectors["x_noisy"], vectors["sigma"]
        given, _ = self.start(source, vectors)
        coefficients = edm_scalings(sigma, self.sigma_data)
        scaled = per_item(coefficients.inp, x) * x
        for name, told in (("raw_F", given), ("raw_F_without_features", replace(given, features=None))):
            raw = self.raw(DIFFUSION, told)(scaled, coefficients.noise)
            self.compare(file, name, raw, vectors.get(name), self.tolerances.raw)
        for field, name in (("skip", "c_skip"), ("out", "c_out"), ("inp", "c_in"), ("noise", "c_noise")):
            self.coefficient(file, name, getattr(coefficients, field), vectors.get(name))
        self.coefficient(file, "loss_weight", edm_loss_weight(sigma, self.sigma_data), vectors.get("loss_weight"))
        denoised = clamped(self.denoiser(self.raw(DIFFUSION, given), edm_scalings))(x, sigma)
        self.compare(file, "denoised", denoised, vectors.get("denoised"), self.tolerances.denoised)
        c_noise = vectors.get("time_in_c_noise")
        if c_noise is not None:
            embedding = self.network(DIFFUSION).to_time(c_noise)
            wanted = vectors.get("time_embedding_to_time")
            self.compare(file, "time_embedding", embedding, wanted, self.tolerances.feature)
        self.replay_more_of_diffusion(vectors, given)

    def _cd_io(self, vectors: Vectors, source: Vectors) -> None:
        file, tolerances = "cd_io", self.tolerances
        given, _ = self.start(source, vectors)
        for level in (match.group(1) for match in vectors.matching(r"(s\d+)\.sigma")):
            sigma, noise = vectors[f"{level}.sigma"], vectors["noise"]
            x = vectors["x_start"] + per_item(sigma, noise) * noise
            edm, cm = edm_scalings(sigma, self.sigma_data), consistency_scalings(sigma, self.sigma_data, self.sigma_min)
            if f"{level}.raw_F" in vectors:
                raw = self.raw(STUDENT, given)(per_item(cm.inp, x) * x, cm.noise)
                self.compare(file, f"{level}.raw_F", raw, vectors.get(f"{level}.raw_F"), tolerances.raw)
            named = {"cm_c_skip": cm.skip, "cm_c_out": cm.out, "edm_c_skip": edm.skip, "edm_c_out": edm.out}
            for name, value in (named | {"c_in": cm.inp}).items():
                self.coefficient(file, f"{level}.{name}", value, vectors.get(f"{level}.{name}"))
            for name, (which, scalings) in DENOISED.items():
                if (wanted := vectors.get(f"{level}.{name}")) is not None:
                    denoised = self.denoiser(self.raw(which, given), scalings)(x, sigma)
                    self.compare(file, f"{level}.{name}", denoised, wanted, tolerances.denoised)
            self.replay_more_of_consistency(vectors, given, level, x)

    def _sampler(self, file: str, vectors: Vectors, source: Vectors) -> tuple[Given, Tensor]:
        """What the runs of a sampler file begin with: as many items of the batch as they have."""
        items = len(vectors[f"{golden_samplers.runs(vectors)[0]}.init_noise"])
        given, x_det = self.start(source, vectors, items)
        self.compare(file, "x_det", x_det, vectors.get("x_det"), self.tolerances.output)
        return given, x_det

    def _cd_sampler(self, vectors: Vectors, source: Vectors) -> None:
        given, x_det = self._sampler("cd_sampler", vectors, source)
        denoise = self.denoiser(self.raw(STUDENT, given), consistency_scalings)
        replay = golden_samplers.Replay(f"{self.name}/cd_sampler", vectors, self.report, self.tolerances.denoised)
        golden_samplers.replay_consistency(replay, denoise, x_det, self.settings["sampling"])

    def _edm_sampler(self, vectors: Vectors, source: Vectors) -> None:
        given, x_det = self._sampler("edm_sampler", vectors, source)
        denoise = clamped(self.denoiser(self.raw(DIFFUSION, given), edm_scalings))
        replay = golden_samplers.Replay(f"{self.name}/edm_sampler", vectors, self.report, self.tolerances.denoised)
        golden_samplers.replay_edm(replay, denoise, x_det, self.settings["sampling"])

    def _heun_sampler(self, vectors: Vectors, source: Vectors) -> None:
        given, x_det = self._sampler("heun_sampler", vectors, source)
        denoise = self.denoiser(self.raw(TEACHER, given), edm_scalings)
        replay = golden_samplers.Replay(f"{self.name}/heun_sampler", vectors, self.report, self.tolerances.walk)
        golden_samplers.replay_heun(replay, denoise, x_det)

    def _cd_loss(self, vectors: Vectors, source: Vectors) -> None:
        s, name = self.settings["consistency"], f"{self.name}/cd_loss"
        grid = distillation_grid(s["start_scales"], s["sigma_min"], s["sigma_max"], s["rho"])
        self.coefficient("cd_loss", "t_grid", grid, vectors.get("t_grid"))
        golden_distillation.replay_probabilities(name, vectors, self.report)
        given, _ = self.start(source, vectors)
        for case in golden_distillation.cases(vectors):
            student, target, teacher = (self.case_raw(w, given, vectors, case) for w in (STUDENT, TARGET, TEACHER))
            networks = Distilled(
                student=self.denoiser(student, consistency_scalings),
                target=self.denoiser(target, consistency_scalings),
                teacher=self.denoiser(teacher, edm_scalings),
            )
            step = golden_distillation.Step(
                name, case, vectors, self.report, self.tolerances.denoised, self.tolerances.walk
            )
            # the resolutions of this loss are the published ones, whatever the network's own
            error = golden_distillation.error_named(case)
            judged = golden_distillation.Judged(self.denoiser(student, edm_scalings), self.sigma_data, error)
            golden_distillation.replay(step, networks, judged, self.usual_start(source, vectors))
        networks_to_average = self.network(TARGET), self.network(STUDENT)
        golden_distillation.replay_average(name, vectors, self.report, *networks_to_average)
