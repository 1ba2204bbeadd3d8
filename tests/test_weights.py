"""Weights on their way from a file into a network."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_parts import SMALL
from prior_parts import CONFIG as MSDM
from safetensors.torch import save_file
from test_diff_vs import TINY as DIFF_VS
from torch import Tensor, nn

from pyserver.engine import weights
from pyserver.engine.errors import ModelNotLoadable
from pyserver.engine.weights import read_network
from pyserver.models import registry
from pyserver.models.card import ModelCard
from pyserver.models.catalogue import InstalledModel

ISDM = MSDM | {"network": MSDM["network"] | {"in_channels": 1}}
DICOSE = {name: {"separator": config, "refiner": config, "sigma_data": 0.2} for name, config in SMALL.items()}


def trained(architecture: str, config: dict[str, Any]) -> nn.Module:
    """No tensor is what it is made as."""
    torch.manual_seed(5)
    network = registry.build(architecture, config)
    network.load_state_dict({key: torch.randn_like(value) for key, value in network.state_dict().items()})
    return network


def installed(folder: Path, like: ModelCard, state: dict[str, Tensor], **changes: object) -> InstalledModel:
    save_file({key: value.clone() for key, value in state.items()}, folder / "w.safetensors")
    return InstalledModel(
        replace(like, weights=("w.safetensors",), sha256={"w.safetensors": "0" * 64}, **changes), folder
    )


@pytest.fixture
def tiny(tiny_model_dir: Path) -> ModelCard:
    return ModelCard.load(tiny_model_dir / "stemline-small" / "card.json")


def tensors(network: nn.Module) -> dict[str, Tensor]:
    """With the tables that no file holds."""
    return {**network.state_dict(), **dict(network.named_buffers())}


@pytest.mark.parametrize("large_bytes", [0, 1e9], ids=["built on no device", "built for real"])
@pytest.mark.parametrize("architecture", ["band_split", "diff_vs", "msdm", "isdm", *DICOSE])
def test_every_architecture_is_whole_after_loading(
    architecture: str, large_bytes: float, tiny: ModelCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "_LARGE_BYTES", large_bytes)
    configs = {"band_split": tiny.config, "diff_vs": asdict(DIFF_VS), "msdm": MSDM, "isdm": ISDM, **DICOSE}
    expected = trained(architecture, dict(configs[architecture]))
    model = installed(tmp_path, tiny, expected.state_dict(), architecture=architecture, config=configs[architecture])
    found = read_network(model)
    assert tensors(found).keys() == tensors(expected).keys()
    for name, tensor in tensors(found).items():
        assert torch.equal(tensor, tensors(expected)[name]), name
    assert not found.training


def test_a_network_does_not_change_with_its_file(tiny: ModelCard, tmp_path: Path) -> None:
    expected = trained("band_split", dict(tiny.config))
    model = installed(tmp_path, tiny, expected.state_dict())
    found = read_network(model)
    with model.weight_paths[0].open("r+b") as file:
        file.seek(model.file_bytes // 2)
        file.write(bytes(model.file_bytes // 4))
    assert all(torch.equal(tensor, expected.state_dict()[name]) for name, tensor in found.state_dict().items())


def test_weights_that_were_kept_in_half_precision_become_the_network_s_own(tiny: ModelCard, tmp_path: Path) -> None:
    expected = trained("band_split", dict(tiny.config))
    halves = {key: value.half() for key, value in expected.state_dict().items()}
    found = read_network(installed(tmp_path, tiny, halves))
    assert {tensor.dtype for tensor in found.state_dict().values()} == {torch.float32}


@pytest.mark.parametrize("broken", ["missing", "extra", "other shape", "not a file of tensors"])
def test_weights_that_do_not_fit_are_refused(broken: str, tiny: ModelCard, tmp_path: Path) -> None:
    state = dict(trained("band_split", dict(tiny.config)).state_dict())
    first = next(iter(state))
    if broken == "missing":
        del state[first]
    elif broken == "extra":
        state["extra"] = torch.zeros(1)
    elif broken == "other shape":
        state[first] = torch.zeros(*state[first].shape, 2)
    model = installed(tmp_path, tiny, state)
    if broken == "not a file of tensors":
        model.weight_paths[0].write_bytes(b"no")
    with pytest.raises(ModelNotLoadable, match="do not fit its network"):
        read_network(model)
