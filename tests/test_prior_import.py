"""Published checkpoints of MSDM and ISDM are imported strictly, sound as they did, and what does not fit is named."""

import json
import os
import re
from pathlib import Path

import pytest
import torch
from checkpoint_parts import UNET, save
from safetensors.torch import load_file
from torch import Tensor

from pyserver.models import catalogue, registry
from pyserver.models.configuration import ConfigurationNeeded, UnknownNetwork
from pyserver.models.fitting import KeysDoNotFit
from pyserver.models.interface import JointModel
from pyserver.models.lightning import ImportOptions, import_checkpoint
from pyserver.models.msdm import MsdmConfig
from pyserver.models.unet import UNet, UNetConfig

GOLDEN = Path(os.environ.get("STEMLINE_GOLDEN", Path(__file__).parents[1] / "../shared/golden")) / "msdm"
HIDDEN = {"resnet_groups": 4, "attention_heads": 2, "attention_features": 8, "use_skip_scale": True}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STEMLINE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("STEMLINE_MODELS", raising=False)
    return tmp_path


def network(channels: int, seed: int = 0) -> dict[str, Tensor]:
    """Names as in the network; nothing of a class."""
    settings = {key: value for key, value in UNET.items() if key != "context_features"} | {"in_channels": channels}
    unet = UNet(UNetConfig.from_published(settings), timed=True)
    generator = torch.Generator().manual_seed(seed)
    return {key: 0.1 * torch.randn(value.shape, generator=generator) for key, value in unet.state_dict().items()}


def published(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The one module under both of its names."""
    return {prefix + key: value for prefix in ("model.unet.", "model.diffusion.net.") for key, value in state.items()}


def loaded(model: catalogue.InstalledModel) -> JointModel:
    built = registry.build(model.card.architecture, model.card.config)
    built.load_state_dict(load_file(model.weight_paths[0]), strict=True)
    assert isinstance(built, JointModel)
    return built.eval()


def test_a_joint_network_becomes_a_model_that_does_everything(home: Path) -> None:
    state = network(4)
    model = import_checkpoint(save(home / "m.ckpt", published(state), HIDDEN), ImportOptions(source="m.ckpt"))
    card = model.card
    assert (card.name, card.architecture, card.stems) == ("msdm", "msdm", ("bass", "drums", "guitar", "piano"))
    assert card.abilities == ("separate", "generate", "accompany")
    assert card.evaluations(card.default_steps) == 300
    assert card.notes == "Imported from m.ckpt."
    assert not card.quality, "those figures are of the full-size network"
    weights = load_file(model.weight_paths[0])
    assert weights.keys() == {f"network.{key}" for key in state}
    assert all(torch.equal(weights[f"network.{key}"], value) for key, value in state.items())
    catalogue.verify(catalogue.find("msdm"))
    assert loaded(model).stems == 4


def test_one_file_a_stem_becomes_one_model(home: Path) -> None:
    states = [network(1, seed) for seed in range(4)]
    files = [save(home / f"{number}.ckpt", published(state), HIDDEN) for number, state in enumerate(states)]
    model = import_checkpoint(files[0], ImportOptions(others=tuple(files[1:])))
    assert (model.card.name, model.card.abilities) == ("isdm", ("separate", "generate"))
    weights = load_file(model.weight_paths[0])
    for number, state in enumerate(states):
        assert all(torch.equal(weights[f"networks.{number}.{key}"], value) for key, value in state.items())
    assert len(weights) == 4 * len(states[0])
    with pytest.raises(UnknownNetwork, match=r"one stem \(ISDM\).*bass, drums, guitar, piano"):
        import_checkpoint(files[0], ImportOptions(name="alone"))


def test_numbered_networks_in_one_file_are_the_same_model(home: Path) -> None:
    states = [network(1, seed) for seed in range(3)]
    state = {f"{number}.model.unet.{key}": value for number, one in enumerate(states) for key, value in one.items()}
    model = import_checkpoint(save(home / "m.ckpt", state, HIDDEN), ImportOptions(name="three"))
    assert model.card.stems == ("stem1", "stem2", "stem3")
    assert loaded(model).stems == 3


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="STEMLINE_GOLDEN is not there")
@pytest.mark.parametrize("kind", ["msdm", "isdm"])
def test_golden_twin_denoises_the_same_after_import(home: Path, kind: str) -> None:
    state, config = load_file(GOLDEN / f"{kind}.safetensors"), json.loads((GOLDEN / "config.json").read_text())
    settings = {"model": config[kind]["model"], "diffusion": config["diffusion"]}
    path = save(home / "m.ckpt", state)
    model = import_checkpoint(path, ImportOptions(configuration=settings))
    direct = registry.build(kind, {"network": settings["model"], "stems": 4, "sigma_data": 0.2})
    theirs = r"^model\.unet\." if kind == "msdm" else r"^(\d+)\.model\.unet\."
    ours = "network." if kind == "msdm" else r"networks.\1."
    direct.load_state_dict({re.sub(theirs, ours, key): value for key, value in state.items()})
    assert isinstance(direct, JointModel)
    x, sigma = torch.randn(1, 4, 512, generator=torch.Generator().manual_seed(0)), torch.full((1,), 0.3)
    with torch.no_grad():
        assert torch.equal(loaded(model).denoise(x, sigma), direct.eval().denoise(x, sigma))
    assert MsdmConfig(**model.card.config).sigma_data == 0.2


def spoilt(home: Path, **changes: Tensor | None) -> Path:
    state = published(network(4))
    for key, value in changes.items():
        if value is None:
            del state[key]
        else:
            state[key] = value
    return save(home / "m.ckpt", state, HIDDEN)


KEY = "to_mapping.0.bias"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({f"model.unet.{KEY}": None, f"model.diffusion.net.{KEY}": None}, r"1 missing: network\.to_mapping\.0\.bias"),
        ({f"model.unet.{KEY}": None}, "copy below model.diffusion.net"),
        ({"model.unet.more": torch.zeros(1), "model.diffusion.net.more": torch.zeros(1)}, "1 unused: network.more"),
        ({"stranger": torch.zeros(1)}, "no known copy: stranger"),
        (
            {f"model.unet.{KEY}": torch.zeros(5), f"model.diffusion.net.{KEY}": torch.zeros(5)},
            r"1 of another shape: network\.to_mapping\.0\.bias \(5,\)",
        ),
    ],
)
def test_what_does_not_fit_is_named(home: Path, changes: dict[str, Tensor | None], told: str) -> None:
    with pytest.raises(KeysDoNotFit, match=told):
        import_checkpoint(spoilt(home, **changes), ImportOptions())


def test_what_shapes_do_not_show_is_asked_for(home: Path) -> None:
    path = save(home / "m.ckpt", published(network(4)))
    with pytest.raises(ConfigurationNeeded, match="resnet_groups"):
        import_checkpoint(path, ImportOptions())
    assert import_checkpoint(path, ImportOptions(configuration=HIDDEN)).card.config["network"]["resnet_groups"] == 4


def test_files_that_are_no_model_together_are_refused(home: Path) -> None:
    joint = save(home / "joint.ckpt", published(network(4)), HIDDEN)
    alone = save(home / "alone.ckpt", published(network(1)), HIDDEN)
    with pytest.raises(KeysDoNotFit, match="whole model"):
        import_checkpoint(joint, ImportOptions(others=(joint,)))
    with pytest.raises(KeysDoNotFit, match=r"of another shape|unused|missing"):
        import_checkpoint(alone, ImportOptions(others=(joint,)))
    gap = {f"{number}.model.unet.{key}": value for number in (0, 2) for key, value in network(1).items()}
    with pytest.raises(KeysDoNotFit, match="numbered"):
        import_checkpoint(save(home / "gap.ckpt", gap, HIDDEN), ImportOptions())
