"""DiCoSe models behind the pipeline's interface: every length, every batch, and exactly the published numbers."""

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import golden_tree
import pytest
import torch
from golden_report import Vectors
from golden_weights import Checkpoints
from torch import Tensor

from pyserver.diffusion.scalings import consistency_scalings, edm_scalings
from pyserver.models import bs_roformer, registry, transformer
from pyserver.models.bs_roformer import BSRoformerConfig
from pyserver.models.dicose import PUBLISHED_PREFIXES, DicoseBSRoformer, DicoseConfig, DicoseUNet
from pyserver.models.interface import ModelHasNoRefiner, SeparationModel
from pyserver.models.unet import UNet, UNetConfig

REPOSITORY = Path(__file__).resolve().parents[1]
GOLDEN = Path(os.environ.get("STEMLINE_GOLDEN", REPOSITORY / "../shared/golden"))
needs_golden = pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"there are no golden vectors at {GOLDEN}")

SMALL: dict[str, Any] = {
    "dicose_unet": {"network": golden_tree.UNET, "channels": 2},
    "dicose_bs_roformer": {"network": golden_tree.BS_ROFORMER, "channels": 1},
}
SIGMA_MIN = 2e-4


@pytest.fixture(params=sorted(SMALL))
def small(request: pytest.FixtureRequest) -> tuple[SeparationModel, int]:
    """(model, its channel count), untrained."""
    torch.set_num_threads(1)
    entry = SMALL[request.param]
    config = {"separator": entry["network"], "refiner": entry["network"], "sigma_data": 0.1, "sigma_min": SIGMA_MIN}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return registry.build(request.param, config).eval(), entry["channels"]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 0.1


@pytest.mark.parametrize("length", [96, 97, 1001])
@torch.no_grad()
def test_any_length_comes_back_as_it_was(small: tuple[SeparationModel, int], length: int) -> None:
    model, channels = small
    stems, features = model.separate(noise(2, channels, length))
    assert stems.shape == (2, 3, channels, length)
    refined = model.denoise(stems, torch.tensor([0.01, 0.1]), features, edm_scalings)
    assert refined.shape == stems.shape
    assert refined.isfinite().all()


@torch.no_grad()
def test_items_of_a_batch_do_not_touch_each_other(small: tuple[SeparationModel, int]) -> None:
    model, channels = small
    mixture, sigma = noise(3, channels, 500), torch.tensor([0.003, 0.03, 0.3])
    stems, features = model.separate(mixture)
    together = model.denoise(stems, sigma, features, edm_scalings)
    for i in range(3):
        alone, own = model.separate(mixture[i : i + 1])
        assert torch.allclose(alone, stems[i : i + 1], atol=1e-6)
        refined = model.denoise(alone, sigma[i : i + 1], own, edm_scalings)
        assert torch.allclose(refined, together[i : i + 1], atol=1e-6)


def test_rows_computed_some_at_a_time_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a CPU does without gradients, against all at once."""
    torch.manual_seed(5)
    entry = SMALL["dicose_bs_roformer"]["network"]
    config = {"separator": entry, "refiner": entry, "sigma_data": 0.1, "sigma_min": SIGMA_MIN}
    model = registry.build("dicose_bs_roformer", config).eval()
    assert isinstance(model, SeparationModel)
    mixture, sigma_B = noise(2, 1, 4000), torch.tensor([0.01, 0.1])

    def both() -> tuple[Tensor, Tensor]:
        stems, features = model.separate(mixture)
        return stems, model.denoise(stems, sigma_B, features, edm_scalings)

    at_once = both()  # with gradients
    monkeypatch.setattr(bs_roformer, "_FRAMES_AT_ONCE", 3)
    for module in (bs_roformer, transformer):
        monkeypatch.setattr(module, "TOKENS_AT_ONCE", 40)
    with torch.no_grad():
        in_parts = both()
    for one, other in zip(at_once, in_parts, strict=True):
        assert torch.allclose(one, other, atol=1e-6)
        assert one.std() > 1e-3


@torch.no_grad()
def test_the_consistency_refiner_is_the_identity_at_sigma_min(small: tuple[SeparationModel, int]) -> None:
    model, channels = small
    stems, features = model.separate(noise(1, channels, 300))
    assert torch.equal(model.denoise(stems, torch.tensor([SIGMA_MIN]), features, consistency_scalings), stems)
    assert not torch.equal(model.denoise(stems, torch.tensor([0.1]), features, consistency_scalings), stems)


@torch.no_grad()
def test_the_refiner_listens_to_the_separator(small: tuple[SeparationModel, int]) -> None:
    model, channels = small
    x, sigma = noise(1, 3, channels, 480), torch.tensor([0.1])
    one, other = (
        model.denoise(x, sigma, model.separate(noise(1, channels, 480, seed=seed))[1], edm_scalings) for seed in (1, 2)
    )
    assert (one - other).abs().max() > 1e-5


@pytest.mark.parametrize("model_class", [DicoseUNet, DicoseBSRoformer])
def test_a_separator_without_refiner_says_so(model_class: Callable[[DicoseConfig], SeparationModel]) -> None:
    network = golden_tree.UNET if model_class is DicoseUNet else golden_tree.BS_ROFORMER
    model = model_class(DicoseConfig(separator=network, refiner=None, sigma_data=0.1))
    assert not model.has_refiner
    assert not [name for name in model.state_dict() if not name.startswith("separator.")]
    with pytest.raises(ModelHasNoRefiner, match="0 refiner steps"):
        model.denoise(torch.zeros(1, 3, 1, 96), torch.ones(1), [], edm_scalings)


def test_variants_that_were_never_published_are_refused() -> None:
    with pytest.raises(ValueError, match="skip_connection"):
        BSRoformerConfig.from_published(golden_tree.BS_ROFORMER | {"skip_connection": True})
    with pytest.raises(ValueError, match="bands cover 32 of 33"):
        BSRoformerConfig.from_published(golden_tree.BS_ROFORMER | {"freqs_per_bands": [16, 16]})
    with pytest.raises(ValueError, match="use_nearest_upsample"):
        UNetConfig.from_published(golden_tree.UNET | {"use_nearest_upsample": True})
    with pytest.raises(ValueError, match="no settings colour"):
        UNetConfig.from_published(golden_tree.UNET | {"colour": "blue"})
    with pytest.raises(ValueError, match="noise level"):
        UNet(dataclasses.replace(UNetConfig.from_published(golden_tree.UNET), context_features=0), timed=False)


def test_unknown_architectures_are_an_error_of_their_own() -> None:
    with pytest.raises(registry.UnknownArchitecture, match="band_split"):
        registry.build("transformer", {})


def load_golden(backbone: str, stage: str) -> SeparationModel:
    """A model with the golden weights, put together as an imported checkpoint would be."""
    torch.set_num_threads(1)
    config = json.loads((GOLDEN / backbone / "config.json").read_text(encoding="utf-8"))
    settings = config["config"]
    if backbone == "unet":
        networks, sigma_data = (settings["model"], settings["model"]), settings["diffusion"]["sigma_data"]
    else:
        networks = (settings["deterministic"], settings["refiner"])
        sigma_data = settings["refiner"]["diffusion_sigma_data"]
    model = registry.build(
        f"dicose_{backbone}", {"separator": networks[0], "refiner": networks[1], "sigma_data": sigma_data}
    )
    published = Checkpoints(GOLDEN / backbone, config).state(stage)
    state = {
        ours + key.removeprefix(theirs): tensor
        for ours, theirs in PUBLISHED_PREFIXES[stage].items()
        for key, tensor in published.items()
        if key.startswith(theirs)
    }
    model.load_state_dict(state, strict=True)
    return model.eval()


@needs_golden
@pytest.mark.parametrize(("backbone", "tolerance"), [("unet", 3e-5), ("bs_roformer", 2e-6)])
@torch.no_grad()
def test_the_interface_gives_the_published_numbers(backbone: str, tolerance: float) -> None:
    model = load_golden(backbone, "cd")
    source, vectors = (Vectors(GOLDEN / backbone / f"{name}.npz") for name in ("det_io", "cd_io"))
    stems, features = model.separate(source["mixture"])
    level = "s4"
    noisy = vectors["x_start"] + vectors[f"{level}.sigma"][0] * vectors["noise"]
    wanted = vectors[f"{level}.net_denoised"]
    if backbone == "bs_roformer":
        assert (stems - source["output"]).abs().max() < tolerance
        got = model.denoise(noisy, vectors[f"{level}.sigma"], features, consistency_scalings)
    else:
        for k in (0, 3):
            assert (stems[:, k] - source[f"output_class{k}"]).abs().max() < 5e-5
        # the vectors hold one stem an item, the interface refines all: every stem starts from the same noisy one
        everywhere = noisy[:, None].expand(-1, model.stems, -1, -1)
        refined = model.denoise(everywhere, vectors[f"{level}.sigma"], features, consistency_scalings)
        stem_of_item = vectors["class_onehot"].argmax(1)
        got = refined[torch.arange(len(refined)), stem_of_item]
    assert (got - wanted).abs().max() < tolerance
