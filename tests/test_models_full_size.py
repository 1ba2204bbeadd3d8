"""The models at full size have the names, shapes and parameter counts of the published checkpoints."""

import json
import os
from collections import Counter
from pathlib import Path

import pytest
import torch
from golden_full_size import full_size_networks, shapes
from torch import nn

from pyserver.models.dicose import PUBLISHED_PREFIXES, DicoseBSRoformer, DicoseUNet, published_bs_roformer
from pyserver.models.dicose import published_unet as published_unet_config

REPOSITORY = Path(__file__).resolve().parents[1]
LISTING = Path(os.environ.get("STEMLINE_GOLDEN", REPOSITORY / "../shared/golden")) / "checkpoint_keys.json"

needs_listing = pytest.mark.skipif(
    not LISTING.is_file(), reason=f"there is no {LISTING}; set STEMLINE_GOLDEN to where the golden vectors are"
)

PARAMETERS = {
    "unet_separator": 405_231_900,
    "unet_refiner": 405_496_220,
    "bs_roformer_separator": 131_704_164,
    "bs_roformer_refiner": 179_865_576,
}
STAGES = {
    "Deterministic_model_unet": ("det", "unet"),
    "diffusion_model_unet": ("diffusion", "unet"),
    "CD_unet": ("cd", "unet"),
    "Deterministic_model_MSST_bs_roformer": ("det", "bs_roformer"),
    "diffusion_model_MSST_bs_roformer": ("diffusion", "bs_roformer"),
    "CD_MSST_bs_roformer": ("cd", "bs_roformer"),
}


@pytest.fixture(scope="module")
def networks() -> dict[str, nn.Module]:
    return full_size_networks()


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_counts_are_the_published_ones(networks: dict[str, nn.Module], name: str) -> None:
    assert sum(p.numel() for p in networks[name].parameters()) == PARAMETERS[name]


def test_parts_of_the_refiner_have_the_published_sizes(networks: dict[str, nn.Module]) -> None:
    counts: Counter[str] = Counter()
    for name, parameter in networks["bs_roformer_refiner"].named_parameters():
        counts[name.split(".")[0]] += parameter.numel()
    assert counts["layers"] == 69_322_944
    assert counts["mask_estimators"] == 98_551_840
    assert counts["to_mapping"] == 4_721_664
    assert counts["transformer_feature_adapters"] == 4_730_880
    assert counts["stft_feature_adapter"] == 42_372


@needs_listing
@pytest.mark.parametrize("name", PARAMETERS)
def test_names_and_shapes_are_the_published_ones(networks: dict[str, nn.Module], name: str) -> None:
    assert shapes(networks[name]) == json.loads(LISTING.read_text(encoding="utf-8"))["subtrees"][name]


@needs_listing
@pytest.mark.parametrize("checkpoint", STAGES)
def test_our_weights_are_found_under_the_published_prefixes(checkpoint: str) -> None:
    prefixes = json.loads(LISTING.read_text(encoding="utf-8"))["checkpoints"][checkpoint]["prefixes"]
    stage, backbone = STAGES[checkpoint]
    for ours, published in PUBLISHED_PREFIXES[stage].items():
        assert prefixes[published] == f"{backbone}_{ours.rstrip('.')}"


def test_one_rotary_table_serves_all_layers_along_an_axis() -> None:
    with torch.device("meta"):
        separator = DicoseBSRoformer(published_bs_roformer()).separator
    tables = {id(p) for name, p in separator.named_parameters(remove_duplicate=False) if name.endswith("freqs")}
    assert len(tables) == 2


def test_the_unet_needs_multiples_of_8192_samples() -> None:
    with torch.device("meta"):
        assert DicoseUNet(published_unet_config()).length_multiple == 8192
