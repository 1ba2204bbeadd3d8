"""Replays a golden folder of the U-Net backbone. Tolerances are those of the vectors' own description."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import golden_distillation
import golden_samplers
import torch
from golden_report import Report, Vectors
from golden_samplers import COEFFICIENT_TOLERANCE, Replay
from golden_weights import Checkpoints
from torch import Tensor

from pyserver.diffusion.samplers import clamped
from pyserver.diffusion.scalings import (
    ScalingsFunction,
    consistency_scalings,
    edm_loss_weight,
    edm_scalings,
    per_item,
    precondition,
)
from pyserver.diffusion.schedules import distillation_grid
from pyserver.models.unet import UNet, UNetConfig

FEATURE, RAW, DENOISED, HEUN, LOUD = 5e-5, 1e-4, 3e-5, 1e-4, 2e-4
LOUD_SIGMA = 0.05


class UNetFolder:
    """One folder: its networks, made when first needed, and its files."""

    def __init__(self, folder: Path, name: str, report: Report) -> None:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self.folder, self.name, self.report = folder, name, report
        self.settings: Mapping[str, Any] = config["config"]
        self.network = UNetConfig.from_published(self.settings["model"])
        self.checkpoints = Checkpoints(folder, config)
        self.sigma_data = float(self.settings["diffusion"]["sigma_data"])
        self.sigma_min = float(self.settings.get("consistency", {}).get("sigma_min", 0.0))
        self._networks: dict[tuple[str, str], UNet] = {}

    def net(self, stage: str, prefix: str, *, timed: bool = True) -> UNet:
        if (stage, prefix) not in self._networks:
            network = UNet(self.network, timed=timed)
            self.checkpoints.load(network, stage, prefix)
            self._networks[stage, prefix] = network
        return self._networks[stage, prefix]

    def separate(self, mixture: Tensor, classes: Tensor) -> tuple[Tensor, list[Tensor]]:
        return self.net("det", "model.unet.", timed=False)(mixture, class_BK=classes)  # type: ignore[no-any-return]

    def raw(self, network: UNet, classes: Tensor, features: list[Tensor] | None) -> Callable[[Tensor, Tensor], Tensor]:
        """F(scaled x, c_noise)."""
        return lambda x, c_noise: network(x, c_noise_B=c_noise, class_BK=classes, injected=features)[0]

    def denoiser(
        self, network: UNet, classes: Tensor, features: list[Tensor] | None, scalings: ScalingsFunction
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """D(x, sigma), without clamp."""
        raw = self.raw(network, classes, features)
        return lambda x, sigma: precondition(raw, x, scalings(sigma, self.sigma_data, self.sigma_min))

    def vectors(self, name: str) -> Vectors | None:
        path = self.folder / f"{name}.npz"
        return Vectors(path) if path.exists() else None

    def case(self, file: str, what: str) -> str:
        return f"{self.name}/{file} {what}"

    def compare(self, file: str, what: str, got: Tensor, want: Tensor | None, tolerance: float) -> None:
        self.report.compare(self.case(file, what), got, want, tolerance)

    def coefficient(self, file: str, what: str, got: Tensor, want: Tensor | None) -> None:
        self.report.compare(self.case(file, what), got, want, COEFFICIENT_TOLERANCE, relative=True)


def replay(folder: Path, name: str, report: Report) -> None:
    unet = UNetFolder(folder, name, report)
    for stage in unet.checkpoints:
        keys, declared = len(unet.checkpoints.state(stage)), unet.checkpoints.declared_keys(stage)
        report.compare(f"{name} {stage} keys", torch.tensor(keys), torch.tensor(declared), 0.0)
    source = unet.vectors("det_io")
    if source is None:
        report.fail(name, "det_io.npz is missing: it holds the mixture of all other cases")
        return
    replays = {
        "det_io": _det_io,
        "diffusion_io": _diffusion_io,
        "cd_io": _cd_io,
        "cd_sampler": _cd_sampler,
        "edm_sampler": _edm_sampler,
        "heun_sampler": _heun_sampler,
        "cd_loss": _cd_loss,
    }
    for file, replay_file in replays.items():
        vectors = unet.vectors(file)
        if vectors is not None:
            replay_file(unet, vectors, source)
            report.leftovers(f"{name}/{file}", vectors)


def _det_io(unet: UNetFolder, vectors: Vectors, _: Vectors) -> None:
    mixture, classes = vectors["mixture"], vectors["class_onehot"]
    unet.compare("det_io", "mixture = sum of stems", vectors["stems"].sum(1), mixture, 1e-6)
    output, features = unet.separate(mixture, classes)
    indices = vectors.matching(r"feature(\d+)")
    if len(indices) != len(features):
        unet.report.fail(unet.case("det_io", "features"), f"{len(features)} instead of {len(indices)}")
    for match, feature in zip(indices, features, strict=False):
        unet.compare("det_io", match.group(), feature, vectors.get(match.group()), FEATURE)
    unet.compare("det_io", "output", output, vectors.get("output"), FEATURE)
    for match in vectors.matching(r"output_class(\d+)"):
        one_class = torch.zeros_like(classes)
        one_class[:, int(match.group(1))] = 1
        unet.compare("det_io", match.group(), unet.separate(mixture, one_class)[0], vectors.get(match.group()), FEATURE)


def _diffusion_io(unet: UNetFolder, vectors: Vectors, source: Vectors) -> None:
    file, net = "diffusion_io", unet.net("diffusion", "model.unet.")
    x, sigma, classes = vectors["x_noisy"], vectors["sigma"], vectors["class_onehot"]
    features = unet.separate(source["mixture"], classes)[1]
    coefficients = edm_scalings(sigma, unet.sigma_data)
    scaled = per_item(coefficients.inp, x) * x
    unet.compare(file, "raw_F", unet.raw(net, classes, features)(scaled, coefficients.noise), vectors.get("raw_F"), RAW)
    bare = unet.raw(net, classes, None)(scaled, coefficients.noise)
    unet.compare(file, "raw_F_without_features", bare, vectors.get("raw_F_without_features"), RAW)
    for field, name in (("skip", "c_skip"), ("out", "c_out"), ("inp", "c_in"), ("noise", "c_noise")):
        unet.coefficient(file, name, getattr(coefficients, field), vectors.get(name))
    unet.coefficient(file, "loss_weight", edm_loss_weight(sigma, unet.sigma_data), vectors.get("loss_weight"))
    denoise = clamped(unet.denoiser(net, classes, features, edm_scalings))
    unet.compare(file, "denoised", denoise(x, sigma), vectors.get("denoised"), DENOISED)
    if "x_noisy_loud" in vectors:
        loud = denoise(vectors["x_noisy_loud"], torch.full_like(sigma, LOUD_SIGMA))
        unet.compare(file, "denoised_loud_clamped", loud, vectors.get("denoised_loud_clamped"), LOUD)
    c_noise = vectors.get("time_in_c_noise")
    if c_noise is None:
        return
    unet.compare(file, "time_embedding", net.to_time(c_noise), vectors.get("time_embedding_to_time"), FEATURE)
    for match in vectors.matching(r"mapping_class(\d+)"):
        one_class = torch.eye(classes.shape[1])[[int(match.group(1))] * len(c_noise)]
        unet.compare(file, match.group(), net.mapping(c_noise, one_class), vectors.get(match.group()), FEATURE)


def _cd_io(unet: UNetFolder, vectors: Vectors, source: Vectors) -> None:
    file, classes = "cd_io", vectors["class_onehot"]
    features = unet.separate(source["mixture"], classes)[1]
    networks = {
        "net_denoised": ("net.model.unet.", consistency_scalings),
        "net_denoised_edm_scalings": ("net.model.unet.", edm_scalings),
        "teacher_denoised": ("teacher_model.model.unet.", edm_scalings),
        "target_model_denoised": ("target_model.model.unet.", consistency_scalings),
    }
    for level in (match.group(1) for match in vectors.matching(r"(s\d+)\.sigma")):
        sigma = vectors[f"{level}.sigma"]
        x = vectors["x_start"] + per_item(sigma, vectors["noise"]) * vectors["noise"]
        edm, cm = edm_scalings(sigma, unet.sigma_data), consistency_scalings(sigma, unet.sigma_data, unet.sigma_min)
        if f"{level}.raw_F" in vectors:
            raw = unet.raw(unet.net("cd", "net.model.unet."), classes, features)(per_item(cm.inp, x) * x, cm.noise)
            unet.compare(file, f"{level}.raw_F", raw, vectors.get(f"{level}.raw_F"), RAW)
        named = {"cm_c_skip": cm.skip, "cm_c_out": cm.out, "edm_c_skip": edm.skip, "edm_c_out": edm.out, "c_in": cm.inp}
        for name, value in named.items():
            unet.coefficient(file, f"{level}.{name}", value, vectors.get(f"{level}.{name}"))
        for name, (prefix, scalings) in networks.items():
            if f"{level}.{name}" in vectors:
                denoise = unet.denoiser(unet.net("cd", prefix), classes, features, scalings)
                unet.compare(file, f"{level}.{name}", denoise(x, sigma), vectors.get(f"{level}.{name}"), DENOISED)


def _start(unet: UNetFolder, vectors: Vectors, source: Vectors, file: str) -> tuple[Tensor, list[Tensor], Tensor]:
    """Classes, features and x_det of the first items of the batch, as many as the runs have."""
    items = len(vectors[f"{golden_samplers.runs(vectors)[0]}.init_noise"])
    classes = (vectors if "class_onehot" in vectors else source)["class_onehot"][:items]
    x_det, features = unet.separate(source["mixture"][:items], classes)
    if "x_det" in vectors:
        unet.compare(file, "x_det", x_det, vectors.get("x_det"), FEATURE)
    return classes, features, x_det


def _cd_sampler(unet: UNetFolder, vectors: Vectors, source: Vectors) -> None:
    classes, features, x_det = _start(unet, vectors, source, "cd_sampler")
    denoise = unet.denoiser(unet.net("cd", "net.model.unet."), classes, features, consistency_scalings)
    replay = Replay(f"{unet.name}/cd_sampler", vectors, unet.report, DENOISED)
    golden_samplers.replay_consistency(replay, denoise, x_det, unet.settings["sampling"])


def _edm_sampler(unet: UNetFolder, vectors: Vectors, source: Vectors) -> None:
    classes, features, x_det = _start(unet, vectors, source, "edm_sampler")
    denoise = clamped(unet.denoiser(unet.net("diffusion", "model.unet."), classes, features, edm_scalings))
    replay = Replay(f"{unet.name}/edm_sampler", vectors, unet.report, DENOISED)
    golden_samplers.replay_edm(replay, denoise, x_det, unet.settings["sampling"])


def _heun_sampler(unet: UNetFolder, vectors: Vectors, source: Vectors) -> None:
    classes, features, x_det = _start(unet, vectors, source, "heun_sampler")
    denoise = unet.denoiser(unet.net("cd", "teacher_model.model.unet."), classes, features, edm_scalings)
    golden_samplers.replay_heun(Replay(f"{unet.name}/heun_sampler", vectors, unet.report, HEUN), denoise, x_det)


def _cd_loss(unet: UNetFolder, vectors: Vectors, source: Vectors) -> None:
    """Everything but the losses themselves, which are left over."""
    settings, name = unet.settings["consistency"], unet.case("cd_loss", "").strip()
    grid = distillation_grid(settings["start_scales"], settings["sigma_min"], settings["sigma_max"], settings["rho"])
    unet.coefficient("cd_loss", "t_grid", grid, vectors.get("t_grid"))
    golden_distillation.replay_probabilities(name, vectors, unet.report)
    classes = source["class_onehot"]
    features = unet.separate(source["mixture"], classes)[1]
    networks = golden_distillation.Networks(
        student=unet.denoiser(unet.net("cd", "net.model.unet."), classes, features, consistency_scalings),
        target=unet.denoiser(unet.net("cd", "target_model.model.unet."), classes, features, consistency_scalings),
        teacher=unet.denoiser(unet.net("cd", "teacher_model.model.unet."), classes, features, edm_scalings),
    )
    for case in golden_distillation.cases(vectors):
        step = golden_distillation.Step(name, case, vectors, unet.report, DENOISED, HEUN)
        golden_distillation.replay(step, networks)
