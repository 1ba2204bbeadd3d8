"""Writes trees of golden vectors in the same format, in other sizes, out of our own networks.

They prove that the replay takes its sizes from the files, and that it notices what does not fit; not that the networks
are right, which only vectors of the reference can.
"""

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from golden_bs_roformer import BSRoformerFolder
from golden_distillation import error_named, network_resolutions
from golden_folder import DIFFUSION, STUDENT, TARGET, TEACHER, Given, GoldenFolder
from golden_report import Report
from golden_unet import UNetFolder
from safetensors.torch import save_file
from torch import Tensor, nn

from pyserver.diffusion import samplers, schedules
from pyserver.diffusion.scalings import ScalingsFunction, consistency_scalings, edm_loss_weight, edm_scalings, per_item
from pyserver.models.bs_roformer import BSRoformerConfig, BSRoformerRefiner, BSRoformerSeparator
from pyserver.models.unet import UNet, UNetConfig
from training.dicose_objectives import (
    Distilled,
    Noising,
    WaveformError,
    l1_and_spectral_error,
    score_matching_error,
    squared_error,
)

Arrays = dict[str, Tensor]

UNET: dict[str, Any] = {
    "context_features": 3,
    "in_channels": 2,
    "channels": 32,
    "patch_factor": 8,
    "patch_blocks": 1,
    "resnet_groups": 4,
    "kernel_multiplier_downsample": 2,
    "kernel_sizes_init": [1, 3, 7],
    "multipliers": [1, 2, 1, 1],
    "factors": [2, 3, 2],
    "num_blocks": [1, 2, 1],
    "attentions": [False, True, False],
    "attention_heads": 3,
    "attention_features": 4,
    "attention_multiplier": 1,
    "use_nearest_upsample": False,
    "use_skip_scale": False,
    "use_attention_bottleneck": False,
}
BS_ROFORMER: dict[str, Any] = {
    "model_type": "bs_roformer",
    "dim": 12,
    "depth": 3,
    "stereo": False,
    "num_stems": 3,
    "time_transformer_depth": 2,
    "freq_transformer_depth": 1,
    "linear_transformer_depth": 0,
    "freqs_per_bands": [3, 5, 9, 16],
    "dim_head": 6,
    "heads": 3,
    "dim_freqs_in": 33,
    "stft_n_fft": 64,
    "stft_hop_length": 15,
    "stft_win_length": 48,
    "stft_normalized": False,
    "multi_stft_resolution_loss_weight": 0.5,
    "multi_stft_resolutions_window_sizes": [96, 40],
    "multi_stft_hop_size": 31,
    "stft_adapter_type": "conv2d",
    "stft_adapter_hidden": 5,
    "mask_estimator_depth": 3,
    "mlp_expansion_factor": 3,
    "skip_connection": False,
}
SAMPLING: dict[str, Any] = {
    "cd_sigma_max": 0.02,
    "cd_sigma_min": 2e-4,
    "cd_rho": 7,
    "cd_steps": [1, 3],
    "dm_sigma_max": 0.03,
    "dm_sigma_min": 1e-4,
    "dm_rho": 5.0,
}
SIGMA_DATA, SIGMA_MIN = 0.11, 2e-4
CONSISTENCY = {"start_scales": 6, "sigma_min": SIGMA_MIN, "sigma_max": 0.6, "rho": 7, "sigma_data": SIGMA_DATA}


def write_unet(folder: Path) -> None:
    """Stereo, three stems, three levels, no attention in the bottleneck, odd factors, a batch of three."""
    config = UNetConfig.from_published(UNET)
    settings = {"model": UNET, "diffusion": {"sigma_data": SIGMA_DATA}, "sampling": SAMPLING}
    networks = [UNet(config, timed=timed) for timed in (False, True, True, True)]
    _write_weights(folder, "unet", settings, networks)
    model = UNetFolder(folder, "new", Report())
    stems = 0.1 * torch.randn(3, 3, 2, 3 * config.length_multiple)
    mixture, classes = stems.sum(1), torch.eye(3)[[2, 0, 1]]
    output, features = model.separate(mixture, classes)
    one_class = {f"output_class{k}": model.separate(mixture, torch.eye(3)[[k] * 3])[0] for k in (0, 2)}
    det_io = {"stems": stems, "mixture": mixture, "class_onehot": classes, "output": output, **one_class}
    save(folder / "det_io.npz", det_io | _numbered(features))

    diffusion, given = model.network(DIFFUSION), Given(features, classes)
    raw, bare = model.raw(DIFFUSION, given), model.raw(DIFFUSION, Given(None, classes))
    denoise = samplers.clamped(model.denoiser(raw, edm_scalings))
    time, x_loud = torch.linspace(-2, 1, 4), 3 * torch.randn_like(output)
    extra = {
        "x_noisy_loud": x_loud,
        "denoised_loud_clamped": denoise(x_loud, torch.full((3,), 0.05)),
        "time_in_c_noise": time,
        "time_embedding_to_time": diffusion.to_time(time),
        "mapping_class1": diffusion.mapping(time, torch.eye(3)[[1] * 4]),
    }
    inputs = {"class_onehot": classes, **extra}
    clean = torch.einsum("bk,bkcl->bcl", classes, stems)
    recorded = inputs | _diffusion_io(denoise, raw, bare, output) | _unet_score_matching(denoise, clean)
    save(folder / "diffusion_io.npz", recorded)
    g = model.denoiser(model.raw(STUDENT, given), consistency_scalings)
    target = model.denoiser(model.raw(TARGET, given), consistency_scalings)
    teacher = model.denoiser(model.raw(TEACHER, given), edm_scalings)
    cd_io = _cd_io(g, model.raw(STUDENT, given), output) | {"class_onehot": classes}
    x, sigma = _noisy(cd_io, "s1")
    others = {"s1.target_model_denoised": target(x, sigma), "s1.teacher_denoised": teacher(x, sigma)}
    save(folder / "cd_io.npz", cd_io | others)
    runs = {"class_onehot": classes, "x_det": output}
    save(folder / "cd_sampler.npz", runs | _cd_sampler(g, output))
    save(folder / "edm_sampler.npz", runs | _edm_sampler(denoise, output))
    save(folder / "heun_sampler.npz", runs | _heun_sampler(teacher, output))
    score = model.denoiser(model.raw(STUDENT, given), edm_scalings)
    distilled = Distilled(student=g, target=target, teacher=teacher)
    step = _cd_loss(distilled, score, clean) | _average(model, "to_mapping.0.weight")
    save(folder / "cd_loss.npz", {name: array for name, array in step.items() if name != "step.x_start"})


def write_bs_roformer(folder: Path) -> None:
    """Mono, three stems, four bands, three layers with two time transformers each, an odd length, one item."""
    config = BSRoformerConfig.from_published(BS_ROFORMER)
    refiner = BS_ROFORMER | {"diffusion_sigma_data": SIGMA_DATA}
    settings = {"deterministic": BS_ROFORMER, "refiner": refiner, "sampling": SAMPLING}
    networks = [BSRoformerSeparator(config), *(BSRoformerRefiner(config) for _ in range(3))]
    _write_weights(folder, "bs_roformer", settings, networks)
    model = BSRoformerFolder(folder, "new", Report())
    stems = 0.1 * torch.randn(1, 3, 1, 1001)
    output, features = model.separator_stages(stems.sum(1))
    resolutions = network_resolutions(BS_ROFORMER)
    det_loss = {"det_loss_l1_plus_mrstft": l1_and_spectral_error(output, stems, resolutions).mean()}
    det_io = {"stems": stems, "mixture": stems.sum(1), "output": output} | det_loss
    save(folder / "det_io.npz", det_io | _numbered(features))

    diffusion, given = model.network(DIFFUSION), Given(features)

    def last_stem(which: tuple[str, str], scalings: ScalingsFunction) -> samplers.Denoiser:
        one = model.denoiser(model.one_stem(which, given, stem=2), scalings)
        return lambda x, sigma: one(x[:, 0], sigma)[:, None]

    raw, bare = model.raw(DIFFUSION, given), model.raw(DIFFUSION, Given(None))
    denoise = samplers.clamped(model.denoiser(raw, edm_scalings))
    arrays = _diffusion_io(denoise, raw, bare, output)
    time = torch.linspace(-2, 1, 4)
    extra = {
        "denoised_loud_clamped": denoise(40 * arrays["x_noisy"], torch.full((1,), 0.02)),
        "single_stem2.raw_F": arrays["raw_F"][:, 2:3],
        "single_stem2.denoised": arrays["denoised"][:, 2:3],
        "time_in_c_noise": time,
        "time_embedding_to_time": diffusion.to_time(time),
        "mapping_stem0": diffusion.mapping(time, 0),
        "stft_adapter_out": diffusion.adapt_spectrum(features[0]),
    }
    one_stem = samplers.clamped(last_stem(DIFFUSION, edm_scalings))
    error = error_named("dsm_bsroformer", resolutions)
    score_matching = _score_matching("dsm_bsroformer", one_stem, output[:, 2:3], stems[:, 2:3], error)
    save(folder / "diffusion_io.npz", arrays | extra | score_matching)
    g = model.denoiser(model.raw(STUDENT, given), consistency_scalings)
    save(folder / "cd_io.npz", _cd_io(g, model.raw(STUDENT, given), output))
    save(folder / "cd_sampler.npz", {"x_det": output} | _cd_sampler(g, output))
    save(folder / "edm_sampler.npz", {"x_det": output} | _edm_sampler(denoise, output))

    distilled = Distilled(
        student=last_stem(STUDENT, consistency_scalings),
        target=last_stem(TARGET, consistency_scalings),
        teacher=last_stem(TEACHER, edm_scalings),
    )
    step = _cd_loss(distilled, last_stem(STUDENT, edm_scalings), output[:, 2:3])
    save(folder / "cd_loss.npz", step | {"step.stem": torch.tensor(2)} | _average(model, "to_mapping.2.bias"))


def _write_weights(folder: Path, backbone: str, settings: dict[str, Any], networks: Sequence[nn.Module]) -> None:
    """config.json and shards: the separator, then the diffusion refiner in two files, then student and EMA target."""
    folder.mkdir(parents=True)
    det, diffusion, student, target = (network.state_dict() for network in networks)
    frozen = "pre_trained_mixture_feature_extractor_model."
    save_file(_below("model.unet.", det), folder / "separator.safetensors")
    whole = sorted(_below("model.unet.", diffusion).items())
    save_file(dict(whole[::2]), folder / "diffusion-1.safetensors")
    save_file(dict(whole[1::2]), folder / "diffusion-2.safetensors")
    save_file(
        _below("net.model.unet.", student) | _below("target_model.model.unet.", target), folder / "cd.safetensors"
    )

    def alias(prefix: str, checkpoint: str, same: str) -> dict[str, Any]:
        return {"alias_prefix": prefix, "same_tensors_as": {"checkpoint": checkpoint, "prefix": same}}

    def entry(files: list[str], keys: int, *aliases: dict[str, Any]) -> dict[str, Any]:
        return {"files": files, "num_keys_in_lightning_state_dict": keys, "aliases": list(aliases)}

    from_det, shards = alias(frozen, "det", ""), ["diffusion-1.safetensors", "diffusion-2.safetensors"]
    twin = alias("model.diffusion.net.", "diffusion", "model.unet.")
    teacher = alias("teacher_model.model.unet.", "diffusion", "model.unet.")
    checkpoints = {
        "det": entry(["separator.safetensors"], len(det)),
        "diffusion": entry(shards, len(det) + 2 * len(diffusion), from_det, twin),
        "cd": entry(["cd.safetensors"], len(det) + 3 * len(student), from_det, teacher),
    }
    config = {"backbone": backbone, "checkpoints": checkpoints, "config": settings | {"consistency": CONSISTENCY}}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def _below(prefix: str, state: dict[str, Tensor]) -> Arrays:
    return {prefix + key: tensor.clone() for key, tensor in state.items()}


def _numbered(features: list[Tensor]) -> Arrays:
    return {f"feature{index:02d}": feature for index, feature in enumerate(features)}


def save(path: Path, arrays: Arrays) -> None:
    contents: dict[str, Any] = {name: tensor.detach().numpy() for name, tensor in arrays.items()}
    np.savez_compressed(path, **contents)


def _levels(items: int) -> Tensor:
    return torch.logspace(-3, -0.5, items)


def _diffusion_io(
    denoise: samplers.Denoiser, raw: Callable[..., Tensor], bare: Callable[..., Tensor], like: Tensor
) -> Arrays:
    sigma = _levels(len(like))
    x, c = like + per_item(sigma, like) * torch.randn_like(like), edm_scalings(sigma, SIGMA_DATA)
    scaled = per_item(c.inp, x) * x
    arrays = {"x_noisy": x, "sigma": sigma, "raw_F": raw(scaled, c.noise), "denoised": denoise(x, sigma)}
    arrays |= {"raw_F_without_features": bare(scaled, c.noise), "loss_weight": edm_loss_weight(sigma, SIGMA_DATA)}
    return arrays | {"c_skip": c.skip, "c_out": c.out, "c_in": c.inp, "c_noise": c.noise}


def _noisy(arrays: Arrays, level: str) -> tuple[Tensor, Tensor]:
    sigma = arrays[f"{level}.sigma"]
    return arrays["x_start"] + per_item(sigma, arrays["noise"]) * arrays["noise"], sigma


def _cd_io(g: samplers.Denoiser, raw: Callable[..., Tensor], like: Tensor) -> Arrays:
    arrays: Arrays = {"noise": torch.randn_like(like), "x_start": like}
    for level, value in enumerate((SIGMA_MIN, 0.03)):
        arrays[f"s{level}.sigma"] = torch.full((len(like),), value)
        x, sigma = _noisy(arrays, f"s{level}")
        edm, cm = edm_scalings(sigma, SIGMA_DATA), consistency_scalings(sigma, SIGMA_DATA, SIGMA_MIN)
        named = {"cm_c_skip": cm.skip, "cm_c_out": cm.out, "edm_c_skip": edm.skip, "edm_c_out": edm.out, "c_in": cm.inp}
        named |= {"raw_F": raw(per_item(cm.inp, x) * x, cm.noise), "net_denoised": g(x, sigma)}
        arrays |= {f"s{level}.{name}": tensor for name, tensor in named.items()}
    return arrays


class Draws(Iterator[Tensor]):
    """Normal tensors that are remembered under the names given, in the order drawn."""

    def __init__(self, like: Tensor, names: Iterator[str]) -> None:
        self.like, self.names = like, names
        self.drawn: Arrays = {}

    def __next__(self) -> Tensor:
        drawn = torch.randn_like(self.like)
        self.drawn[next(self.names)] = drawn
        return drawn


def _cd_sampler(g: samplers.Denoiser, x_det: Tensor) -> Arrays:
    arrays: Arrays = {}
    for steps in SAMPLING["cd_steps"]:
        sigmas = schedules.consistency_schedule(
            steps, SAMPLING["cd_sigma_min"], SAMPLING["cd_sigma_max"], SAMPLING["cd_rho"]
        )
        names = (f"cd{steps}.{name}" for name in itertools.chain(["init_noise"], (f"renoise{i:02d}" for i in range(9))))
        draws = Draws(x_det, names)
        output = samplers.consistency_multistep(g, x_det, sigmas, draws).clamp(-1, 1)
        arrays |= draws.drawn | {f"cd{steps}.sigmas": sigmas, f"cd{steps}.output": output}
        arrays[f"cd{steps}.nfe_sigmas"] = sigmas[:steps].double()
    return arrays


def _edm_sampler(denoise: samplers.Denoiser, x_det: Tensor) -> Arrays:
    steps, corrections, churn = 3, 2, 0.6
    sigmas = schedules.diffusion_schedule(steps, SAMPLING["dm_sigma_min"], SAMPLING["dm_sigma_max"], SAMPLING["dm_rho"])
    within = [f"r{r}.{what}" for r in range(corrections) for what in ("churn_noise", "renoise")][:-1]
    names = itertools.chain(["init_noise"], (f"step{i}.{name}" for i in range(steps) for name in within))
    draws = Draws(x_det, (f"edm.{name}" for name in names))
    output = samplers.edm_stochastic(denoise, x_det, sigmas, draws, corrections=corrections, churn=churn)
    settings = {"s_churn": churn, "gamma": churn / steps, "num_resamples": corrections}
    scalars = {f"edm.{name}": torch.tensor(value) for name, value in settings.items()}
    return draws.drawn | scalars | {"edm.sigmas": sigmas, "edm.output": output.clamp(-1, 1)}


def _noising(like: Tensor) -> Noising:
    return Noising(like, _levels(len(like)), torch.randn_like(like))


def _unet_score_matching(denoise: samplers.Denoiser, clean: Tensor) -> Arrays:
    drawn = torch.randn(len(clean))
    noising = Noising(clean, (drawn - 3).exp(), torch.randn_like(clean))
    loss = score_matching_error(denoise, noising, clean, SIGMA_DATA, squared_error).mean()
    found = {"x_start": clean, "sigma": noising.sigma_B, "noise": noising.noise, "loss": loss, "sigma_normal": drawn}
    return {f"dsm_{name}": array for name, array in found.items()}


def _score_matching(
    case: str, denoise: samplers.Denoiser, start: Tensor, clean: Tensor, error: WaveformError
) -> Arrays:
    """Of the last stem, from the separator's estimate."""
    noising = _noising(start)
    loss = score_matching_error(denoise, noising, clean, SIGMA_DATA, error).mean()
    found = {"x_start": start, "clean_target": clean, "sigma": noising.sigma_B, "noise": noising.noise, "loss": loss}
    return {f"{case}.{name}": array for name, array in (found | {"stem": torch.tensor(2)}).items()}


def _average(model: GoldenFolder, key: str) -> Arrays:
    """One tensor of the target after an update."""
    decay, (target, student) = 0.9, (model.network(which).state_dict()[key] for which in (TARGET, STUDENT))
    after = decay * target + (1 - decay) * student
    return {"ema.decay": torch.tensor(decay, dtype=torch.float64), f"ema.after.model.unet.{key}": after}


def _cd_loss(networks: Distilled, score: samplers.Denoiser, like: Tensor) -> Arrays:
    """One step over two grid points, judged by the squared error."""
    grid = schedules.distillation_grid(6, SIGMA_MIN, CONSISTENCY["sigma_max"], CONSISTENCY["rho"])
    indices, heun_steps, noise = torch.arange(len(like)), 2, torch.randn_like(like)
    t, t_dt = grid[indices], grid[indices + heun_steps]
    x_t = like + per_item(t, noise) * noise
    walked = x_t
    for k in range(heun_steps):
        walked = samplers.heun_step(networks.teacher, walked, grid[indices + k], grid[indices + k + 1])
    estimate, target, noised = networks.student(x_t, t), networks.target(walked, t_dt), _noising(like)
    matching = (estimate - target).square().flatten(1).mean(1)
    dsm = score_matching_error(score, noised, like, SIGMA_DATA, squared_error)
    found = {"indices": indices, "num_heun_steps": torch.tensor(heun_steps), "x_start": like, "noise_cd": noise}
    found |= {"t": t, "t_dt": t_dt, "x_t": x_t, "x_t_dt_after_heun": walked, "estimate": estimate, "target": target}
    found |= {"dsm_sigmas": noised.sigma_B, "noise_dsm": noised.noise, "dsm_loss_per_example": dsm}
    found |= {"consistency_loss_per_example": matching, "total_weight_0.5": matching.mean() + dsm.mean() / 2}
    chances = torch.arange(1, 6).double() / 15
    return {f"step.{name}": tensor for name, tensor in found.items()} | {
        "t_grid": grid,
        "heun_step_probability": chances,
    }


def _heun_sampler(teacher: samplers.Denoiser, x_det: Tensor) -> Arrays:
    sigmas, churn = schedules.heun_schedule(3, 1e-4, 0.2, 7.0), torch.tensor(0.5)
    names = itertools.chain(["heun.init_noise"], (f"heun.churn_noise{i:02d}" for i in range(3)))
    draws = Draws(x_det, names)
    output = samplers.heun(teacher, x_det, sigmas, draws, churn=float(churn)).clamp(-1, 1)
    return draws.drawn | {"heun.sigmas": sigmas, "heun.s_churn": churn, "heun.output": output}
