"""Replays a golden folder of the BS-RoFormer backbone. Tolerances are those of the vectors' own description.

Cases are replayed stage by stage: the separator's features are computed from the stored spectrum once the spectrum
itself has been compared, and the refiner is given the stored features once those have been. FFT libraries round
differently (MKL does on Intel and on other processors), by less than 2e-6 here, and the norm of a nearly silent band
magnifies that beyond the tolerance of the features though the network is exact. The separator's estimates, and so the
starts of all samplers, are end to end; tests/test_dicose.py has separator and refiner in one.
"""

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
from pyserver.models.bs_roformer import BSRoformerConfig, BSRoformerRefiner, BSRoformerSeparator

FEATURE, OUTPUT, RAW, DENOISED, LOUD = 2e-5, 2e-6, 2e-5, 2e-6, 4e-5
LOUD_GAIN, LOUD_SIGMA = 40.0, 0.02

Features = list[Tensor] | None


class BSRoformerFolder:
    """One folder: its networks, made when first needed, and its files."""

    def __init__(self, folder: Path, name: str, report: Report) -> None:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self.folder, self.name, self.report = folder, name, report
        self.settings: Mapping[str, Any] = config["config"]
        self.checkpoints = Checkpoints(folder, config)
        self.sigma_data = float(self.settings.get("refiner", {}).get("diffusion_sigma_data", 0.0))
        self.sigma_min = float(self.settings.get("consistency", {}).get("sigma_min", 0.0))
        self.separator = BSRoformerSeparator(BSRoformerConfig.from_published(self.settings["deterministic"]))
        self.checkpoints.load(self.separator, "det", "model.unet.")
        self._refiners: dict[tuple[str, str], BSRoformerRefiner] = {}

    def refiner(self, stage: str, prefix: str) -> BSRoformerRefiner:
        if (stage, prefix) not in self._refiners:
            network = BSRoformerRefiner(BSRoformerConfig.from_published(self.settings["refiner"]))
            self.checkpoints.load(network, stage, prefix)
            self._refiners[stage, prefix] = network
        return self._refiners[stage, prefix]

    def separate(self, mixture: Tensor) -> tuple[Tensor, list[Tensor]]:
        return self.separator(mixture)  # type: ignore[no-any-return]

    def stored_features(self, source: Vectors, items: int | None = None) -> list[Tensor]:
        """What the refiner takes, of the first items of the batch."""
        return [source[f"feature{index:02d}"][:items] for index in range(self.separator.config.injected_features)]

    def denoiser(self, network: BSRoformerRefiner, features: Features, scalings: ScalingsFunction) -> Denoiser:
        """D(x_BSCL, sigma) of all stems, without clamp."""
        one_stem = [self.stem_denoiser(network, features, scalings, k) for k in range(network.config.num_stems)]
        return lambda x, sigma: torch.stack([one_stem[k](x[:, k], sigma) for k in range(x.shape[1])], dim=1)

    def stem_denoiser(
        self, network: BSRoformerRefiner, features: Features, scalings: ScalingsFunction, stem: int
    ) -> Denoiser:
        """D(x_BCL, sigma) of one stem, without clamp."""

        def raw(x: Tensor, c_noise: Tensor) -> Tensor:
            return network(x, c_noise, stem, features)  # type: ignore[no-any-return]

        return lambda x, sigma: precondition(raw, x, scalings(sigma, self.sigma_data, self.sigma_min))

    def raw(self, network: BSRoformerRefiner, features: Features) -> Callable[[Tensor, Tensor], Tensor]:
        """F(scaled x_BSCL, c_noise) of all stems."""
        return lambda x, c_noise: torch.stack(
            [network(x[:, k], c_noise, k, features) for k in range(x.shape[1])], dim=1
        )

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
    model = BSRoformerFolder(folder, name, report)
    for stage in model.checkpoints:
        keys, declared = len(model.checkpoints.state(stage)), model.checkpoints.declared_keys(stage)
        report.compare(f"{name} {stage} keys", torch.tensor(keys), torch.tensor(declared), 0.0)
    source = model.vectors("det_io")
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
        vectors = model.vectors(file)
        if vectors is not None:
            replay_file(model, vectors, source)
            report.leftovers(f"{name}/{file}", vectors)


def _det_io(model: BSRoformerFolder, vectors: Vectors, _: Vectors) -> None:
    mixture = vectors["mixture"]
    model.compare("det_io", "mixture = sum of stems", vectors["stems"].sum(1), mixture, 1e-6)
    output, features = model.separate(mixture)
    masks, inner = model.separator.core(vectors["feature00"])
    staged = [features[0], *inner, masks, output]
    names = [match.group() for match in vectors.matching(r"feature\d+")]
    if len(names) != len(staged):
        model.report.fail(model.case("det_io", "features"), f"{len(staged)} instead of {len(names)}")
    for name, feature in zip(names, staged, strict=False):
        tolerance = OUTPUT if feature is output else FEATURE
        model.compare("det_io", name, feature, vectors.get(name), tolerance)
    model.compare("det_io", "output", output, vectors.get("output"), OUTPUT)


def _diffusion_io(model: BSRoformerFolder, vectors: Vectors, source: Vectors) -> None:
    file, net = "diffusion_io", model.refiner("diffusion", "model.unet.")
    x, sigma = vectors["x_noisy"], vectors["sigma"]
    features = model.stored_features(source)
    coefficients = edm_scalings(sigma, model.sigma_data)
    scaled = per_item(coefficients.inp, x) * x
    raw = model.raw(net, features)(scaled, coefficients.noise)
    model.compare(file, "raw_F", raw, vectors.get("raw_F"), RAW)
    bare = model.raw(net, None)(scaled, coefficients.noise)
    model.compare(file, "raw_F_without_features", bare, vectors.get("raw_F_without_features"), RAW)
    for field, name in (("skip", "c_skip"), ("out", "c_out"), ("inp", "c_in"), ("noise", "c_noise")):
        model.coefficient(file, name, getattr(coefficients, field), vectors.get(name))
    model.coefficient(file, "loss_weight", edm_loss_weight(sigma, model.sigma_data), vectors.get("loss_weight"))
    denoise = clamped(model.denoiser(net, features, edm_scalings))
    model.compare(file, "denoised", denoise(x, sigma), vectors.get("denoised"), DENOISED)
    for match in vectors.matching(r"single_stem(\d+)\.raw_F"):
        stem = int(match.group(1))
        one_raw = net(scaled[:, stem], coefficients.noise, stem, features)[:, None]
        one = clamped(model.stem_denoiser(net, features, edm_scalings, stem))(x[:, stem], sigma)[:, None]
        model.compare(file, match.group(), one_raw, vectors.get(match.group()), RAW)
        model.compare(file, f"single_stem{stem}.denoised", one, vectors.get(f"single_stem{stem}.denoised"), DENOISED)
    loud = denoise(LOUD_GAIN * x, torch.full_like(sigma, LOUD_SIGMA))
    model.compare(file, "denoised_loud_clamped", loud, vectors.get("denoised_loud_clamped"), LOUD)
    adapted = net.adapt_spectrum(features[0][:1])
    model.compare(file, "stft_adapter_out", adapted, vectors.get("stft_adapter_out"), FEATURE)
    c_noise = vectors.get("time_in_c_noise")
    if c_noise is None:
        return
    model.compare(file, "time_embedding", net.to_time(c_noise), vectors.get("time_embedding_to_time"), FEATURE)
    for match in vectors.matching(r"mapping_stem(\d+)"):
        got = net.mapping(c_noise, int(match.group(1)))
        model.compare(file, match.group(), got, vectors.get(match.group()), FEATURE)


def _cd_io(model: BSRoformerFolder, vectors: Vectors, source: Vectors) -> None:
    file, features = "cd_io", model.stored_features(source)
    networks = {
        "net_denoised": ("net.model.unet.", consistency_scalings),
        "net_denoised_edm_scalings": ("net.model.unet.", edm_scalings),
        "teacher_denoised": ("teacher_model.model.unet.", edm_scalings),
        "target_model_denoised": ("target_model.model.unet.", consistency_scalings),
    }
    for level in (match.group(1) for match in vectors.matching(r"(s\d+)\.sigma")):
        sigma = vectors[f"{level}.sigma"]
        x = vectors["x_start"] + per_item(sigma, vectors["noise"]) * vectors["noise"]
        edm, cm = edm_scalings(sigma, model.sigma_data), consistency_scalings(sigma, model.sigma_data, model.sigma_min)
        if f"{level}.raw_F" in vectors:
            raw = model.raw(model.refiner("cd", "net.model.unet."), features)(per_item(cm.inp, x) * x, cm.noise)
            model.compare(file, f"{level}.raw_F", raw, vectors.get(f"{level}.raw_F"), RAW)
        named = {"cm_c_skip": cm.skip, "cm_c_out": cm.out, "edm_c_skip": edm.skip, "edm_c_out": edm.out, "c_in": cm.inp}
        for name, value in named.items():
            model.coefficient(file, f"{level}.{name}", value, vectors.get(f"{level}.{name}"))
        for name, (prefix, scalings) in networks.items():
            refiner = model.refiner("cd", prefix)
            if f"{level}.{name}" in vectors:
                denoise = model.denoiser(refiner, features, scalings)
                model.compare(file, f"{level}.{name}", denoise(x, sigma), vectors.get(f"{level}.{name}"), DENOISED)
            for match in vectors.matching(rf"{level}\.single_stem(\d+)\.{name}"):
                stem = int(match.group(1))
                got = model.stem_denoiser(refiner, features, scalings, stem)(x[:, stem], sigma)
                model.compare(file, match.group(), got[:, None], vectors.get(match.group()), DENOISED)


def _start(model: BSRoformerFolder, vectors: Vectors, source: Vectors, file: str) -> tuple[list[Tensor], Tensor]:
    """Features and x_det of the first items of the batch, as many as the runs have."""
    items = len(vectors[f"{golden_samplers.runs(vectors)[0]}.init_noise"])
    x_det, _ = model.separate(source["mixture"][:items])
    if "x_det" in vectors:
        model.compare(file, "x_det", x_det, vectors.get("x_det"), OUTPUT)
    return model.stored_features(source, items), x_det


def _cd_sampler(model: BSRoformerFolder, vectors: Vectors, source: Vectors) -> None:
    features, x_det = _start(model, vectors, source, "cd_sampler")
    denoise = model.denoiser(model.refiner("cd", "net.model.unet."), features, consistency_scalings)
    replay = Replay(model.case("cd_sampler", "").strip(), vectors, model.report, DENOISED)
    golden_samplers.replay_consistency(replay, denoise, x_det, model.settings["sampling"])


def _edm_sampler(model: BSRoformerFolder, vectors: Vectors, source: Vectors) -> None:
    features, x_det = _start(model, vectors, source, "edm_sampler")
    denoise = clamped(model.denoiser(model.refiner("diffusion", "model.unet."), features, edm_scalings))
    replay = Replay(model.case("edm_sampler", "").strip(), vectors, model.report, DENOISED)
    golden_samplers.replay_edm(replay, denoise, x_det, model.settings["sampling"])


def _heun_sampler(model: BSRoformerFolder, vectors: Vectors, source: Vectors) -> None:
    features, x_det = _start(model, vectors, source, "heun_sampler")
    denoise = model.denoiser(model.refiner("cd", "teacher_model.model.unet."), features, edm_scalings)
    replay = Replay(model.case("heun_sampler", "").strip(), vectors, model.report, DENOISED)
    golden_samplers.replay_heun(replay, denoise, x_det)


def _cd_loss(model: BSRoformerFolder, vectors: Vectors, source: Vectors) -> None:
    """Everything but the losses themselves, which are left over."""
    settings, name = model.settings["consistency"], model.case("cd_loss", "").strip()
    grid = distillation_grid(settings["start_scales"], settings["sigma_min"], settings["sigma_max"], settings["rho"])
    model.coefficient("cd_loss", "t_grid", grid, vectors.get("t_grid"))
    golden_distillation.replay_probabilities(name, vectors, model.report)
    features = model.stored_features(source)
    for case in golden_distillation.cases(vectors):
        stem = int(vectors[f"{case}.stem"])

        def one_stem(prefix: str, scalings: ScalingsFunction, stem: int = stem) -> Denoiser:
            denoise = model.stem_denoiser(model.refiner("cd", prefix), features, scalings, stem)
            return lambda x, sigma: denoise(x[:, 0], sigma)[:, None]

        networks = golden_distillation.Networks(
            student=one_stem("net.model.unet.", consistency_scalings),
            target=one_stem("target_model.model.unet.", consistency_scalings),
            teacher=one_stem("teacher_model.model.unet.", edm_scalings),
        )
        step = golden_distillation.Step(name, case, vectors, model.report, DENOISED, DENOISED)
        golden_distillation.replay(step, networks)
