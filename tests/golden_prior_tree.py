"""Writes golden folders of MSDM and ISDM in other sizes; see golden_tree."""

import itertools
import json
from pathlib import Path
from typing import Any

import golden_tree
import torch
from golden_samplers import Recorder
from safetensors.torch import save_file

from pyserver.diffusion import joint, posteriors, samplers, schedules
from pyserver.models.msdm import IndependentSources, JointSources, MsdmConfig


def write_msdm(folder: Path) -> None:
    """Three sources, other levels than the published ones, runs of every sampler."""
    folder.mkdir(parents=True)
    network = {key: value for key, value in golden_tree.UNET.items() if key != "context_features"} | {"channels": 24}
    config: dict[str, Any] = {
        "backbone": "msdm",
        "msdm": {"model": network | {"in_channels": 3, "patch_factor": 4}},
        "isdm": {"model": network | {"in_channels": 1, "patch_factor": 4}},
        "diffusion": {"sigma_data": 0.3},
        "schedule_separation": {"sigma_min": 0.04, "sigma_max": 2.0, "rho": 6.0},
        "schedule_generation": {"sigma_min": 0.01, "sigma_max": 9.0, "rho": 5.0},
        "stems": ["one", "two", "three"],
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    settings = {kind: MsdmConfig(network=config[kind]["model"], stems=3, sigma_data=0.3) for kind in ("msdm", "isdm")}
    joint_model, independent = JointSources(settings["msdm"]).eval(), IndependentSources(settings["isdm"]).eval()
    state = {key.replace("network.", "model.unet.", 1): value for key, value in joint_model.state_dict().items()}
    save_file(state, folder / "msdm.safetensors")
    split = {key: key.split(".", 2) for key in independent.state_dict()}
    state = {f"{n}.model.unet.{rest}": independent.state_dict()[key] for key, (_, n, rest) in split.items()}
    save_file(state, folder / "isdm.safetensors")
    sources = 0.1 * torch.randn(1, 3, 96)
    arrays: golden_tree.Arrays = {"sources": sources, "mixture": sources.sum(1, keepdim=True), "denoise.x": sources}
    arrays["denoise.sigma0.2"] = samplers.clamped(joint_model.denoise)(sources, torch.tensor([0.2]))
    for run in ("msdm_dirac", "msdm_gaussian", "isdm_dirac", "generate", "impute"):
        denoise = (independent if run.startswith("isdm") else joint_model).denoise
        arrays |= {f"{run}.{name}": array for name, array in _joint_run(run, denoise, arrays, config).items()}
    golden_tree.save(folder / "io.npz", arrays)


def _joint_run(
    run: str, denoise: samplers.Denoiser, arrays: golden_tree.Arrays, config: dict[str, Any]
) -> golden_tree.Arrays:
    levels = config["schedule_generation" if run in ("generate", "impute") else "schedule_separation"]
    sigmas = schedules.diffusion_schedule(4, levels["sigma_min"], levels["sigma_max"], levels["rho"])
    noise = golden_tree.Draws(arrays["sources"], (f"{number:04d}" for number in itertools.count()))
    recorder, stepping = Recorder(samplers.clamped(denoise)), joint.Stepping(corrections=2, churn=0.7)
    found: golden_tree.Arrays = {
        "sigmas": sigmas,
        "s_churn": torch.tensor(0.7).double(),
        "num_resamples": torch.tensor(2),
    }
    if run == "generate":
        found["output"] = joint.generate(recorder, sigmas, noise, stepping)
    elif run == "impute":
        found["mask"] = (torch.rand(1, 3, 96) < 0.5).float()
        found["output"] = joint.impute(recorder, joint.Known(arrays["sources"], found["mask"]), sigmas, noise, stepping)
    elif run.endswith("gaussian"):
        found["gamma"] = torch.tensor(1.2).double()
        slope = posteriors.gaussian(recorder, arrays["mixture"], 1.2)
        found["output"] = joint.separate(slope, sigmas, noise, stepping)
    else:
        found["source_id"] = torch.tensor(1)
        found["output"] = joint.separate(posteriors.dirac(recorder, arrays["mixture"], 1), sigmas, noise, stepping)
    draws = [noise.drawn[name] for name in sorted(noise.drawn)]
    x, _, denoised = recorder.calls[3]
    visited = torch.stack([sigma_B[0] for _, sigma_B, _ in recorder.calls])
    return found | {"draws": torch.stack(draws), "nfe03.x": x, "nfe03.denoised": denoised, "nfe_sigmas": visited}
