"""Small models with a joint prior and random weights, for the tests of what they make."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from pyserver.models import catalogue, registry
from pyserver.models.card import ModelCard, PriorSettings, WalkSettings

STEMS = ("bass", "drums", "guitar", "piano")
RATE = 22050
WINDOW = 8192
CONFIG: dict[str, Any] = {
    "network": {
        "in_channels": 4,
        "channels": 32,
        "patch_factor": 8,
        "resnet_groups": 2,
        "kernel_multiplier_downsample": 2,
        "multipliers": [1, 2, 2],
        "factors": [4, 2],
        "num_blocks": [1, 1],
        "attentions": [False, True],
        "attention_heads": 2,
        "attention_features": 8,
        "attention_multiplier": 2,
    },
    "stems": 4,
    "sigma_data": 0.2,
}
CARD = ModelCard(
    name="tiny-msdm",
    title="Untrained prior over four stems",
    architecture="msdm",
    config=CONFIG,
    stems=STEMS,
    sample_rate_hz=RATE,
    channels=1,
    window_samples=WINDOW,
    margin_samples=1024,
    fade_samples=512,
    live_window_samples=4096,
    live_lookahead_samples=512,
    reference_rms=0.1,
    complete=True,
    refiner=None,
    licence="none",
    weights=(),
    sha256={},
    prior=PriorSettings(
        separation=WalkSettings(default_steps=2, sigma_min=0.01, sigma_max=1.0, rho=7.0),
        posterior="dirac",
        constrained_stem="bass",
        generation=WalkSettings(default_steps=6, sigma_min=0.01, sigma_max=5.0, rho=7.0, churn=2.0, fewest_steps=2),
        accompanies=True,
    ),
)
assert CARD.prior is not None
ONLY_GENERATES = replace(
    CARD,
    name="tiny-maker",
    prior=replace(CARD.prior, separates=False, accompanies=False),
)


def network(seed: int = 1) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return registry.build("msdm", CONFIG).eval()


def install(directory: Path, card: ModelCard) -> None:
    directory.mkdir(parents=True)
    weights = directory / "model.safetensors"
    save_file({key: value.contiguous() for key, value in network().state_dict().items()}, weights)
    whole = replace(card, weights=(weights.name,), sha256={weights.name: catalogue.sha256_of(weights)})
    (directory / "card.json").write_text(whole.to_json(), encoding="utf-8")
