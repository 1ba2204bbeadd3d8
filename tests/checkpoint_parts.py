"""Small checkpoints in the published format, with random weights, for the tests that import them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pyserver.models import registry

FROZEN = "pre_trained_mixture_feature_extractor_model.model.unet."
UNET = {
    "context_features": 3,
    "in_channels": 1,
    "channels": 16,
    "patch_factor": 4,
    "resnet_groups": 4,
    "kernel_multiplier_downsample": 2,
    "multipliers": [1, 2, 2],
    "factors": [4, 2],
    "num_blocks": [1, 2],
    "attentions": [False, True],
    "attention_heads": 2,
    "attention_features": 8,
    "attention_multiplier": 2,
    "use_skip_scale": True,
    "use_attention_bottleneck": True,
}
BS_ROFORMER = {
    "dim": 8,
    "depth": 2,
    "stereo": True,
    "num_stems": 3,
    "freqs_per_bands": [2, 2, 5, 8, 16],
    "dim_head": 4,
    "heads": 2,
    "stft_n_fft": 64,
    "stft_hop_length": 15,
    "stft_win_length": 64,
    "mask_estimator_depth": 2,
    "mlp_expansion_factor": 2,
    "stft_adapter_hidden": 8,
}
SMALL = {"dicose_unet": UNET, "dicose_bs_roformer": BS_ROFORMER}


def save(path: Path, state: dict[str, Tensor], hyper: dict[str, Any] | None = None) -> Path:
    torch.save({"state_dict": state, "hyper_parameters": hyper or {}, "epoch": 3, "optimizer_states": []}, path)
    return path


def small_model(architecture: str, seed: int) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    config = {"separator": SMALL[architecture], "refiner": SMALL[architecture], "sigma_data": 0.2}
    model = registry.build(architecture, config)
    return {key: torch.randn_like(value) for key, value in model.state_dict().items()}


def under(prefix: str, state: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    return {prefix + key.removeprefix(part): value for key, value in state.items() if key.startswith(part)}


def lightning_state(architecture: str, stage: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A state dict as published, and the weights that an import must find in it."""
    right = small_model(architecture, 0)
    wrong = small_model(architecture, 1)
    separator = under(FROZEN, right, "separator.")
    if stage == "det":
        kept = {key: value for key, value in right.items() if key.startswith("separator.")}
        return under("model.unet.", right, "separator."), kept
    if stage == "diffusion":
        copies = [under(prefix, right, "refiner.") for prefix in ("model.unet.", "model.diffusion.net.")]
        return {**copies[0], **copies[1], **separator}, right
    state = under("target_model.model.unet.", wrong, "refiner.") | under("teacher_model.model.unet.", wrong, "refiner.")
    return {**state, **under("net.model.unet.", right, "refiner."), **separator}, right


def small_cd(home: Path, change: Callable[[dict[str, Tensor]], None]) -> Path:
    state, _ = lightning_state("dicose_unet", "cd")
    change(state)
    return save(home / "model.ckpt", state, {"model": UNET})
