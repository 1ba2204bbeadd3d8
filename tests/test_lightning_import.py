"""Published checkpoints are imported strictly and from the right copies; what does not fit is named."""

import argparse
import json
import os
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_parts import FROZEN, SMALL, lightning_state, save, small_cd, under
from safetensors.torch import load_file
from torch import Tensor

from pyserver.diffusion.scalings import consistency_scalings
from pyserver.models import catalogue, lightning, registry
from pyserver.models.configuration import ConfigurationContradicted, ConfigurationNeeded, UnknownNetwork
from pyserver.models.lightning import ImportOptions, import_checkpoint
from pyserver.models.torch_archive import StoredTensor

GOLDEN = Path(os.environ.get("STEMLINE_GOLDEN", Path(__file__).parents[1] / "../shared/golden"))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STEMLINE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("STEMLINE_MODELS", raising=False)
    return tmp_path


@pytest.fixture
def foreign() -> Iterator[Callable[[], Any]]:
    """Makes objects of a class whose module is gone when the file is read."""
    module = types.ModuleType("reference_package_that_is_not_here")

    class LogNormalDistribution:
        def __init__(self) -> None:
            self.mean, self.std = -3.0, 1.0

    LogNormalDistribution.__module__ = module.__name__
    LogNormalDistribution.__qualname__ = "LogNormalDistribution"
    module.LogNormalDistribution = LogNormalDistribution  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    yield LogNormalDistribution
    sys.modules.pop(module.__name__, None)


ALL = [(architecture, stage) for architecture in SMALL for stage in ("det", "diffusion", "cd")]


@pytest.mark.parametrize(("architecture", "stage"), ALL)
def test_each_kind_of_checkpoint_gives_its_right_copies(
    home: Path, foreign: Callable[[], Any], architecture: str, stage: str
) -> None:
    state, right = lightning_state(architecture, stage)
    hyper = {"model": argparse.Namespace(**SMALL[architecture]), "sigma_distribution": foreign()}
    path = save(home / "model.ckpt", state, hyper)
    sys.modules.pop("reference_package_that_is_not_here")
    model = import_checkpoint(path, ImportOptions(name="mine"))
    assert model.card.architecture == architecture
    assert (model.card.refiner is None) == (stage == "det")
    catalogue.verify(catalogue.find("mine"))
    loaded = load_file(model.weight_paths[0])
    assert loaded.keys() == right.keys()
    assert all(torch.equal(loaded[key], right[key]) for key in right)
    network = registry.build(model.card.architecture, model.card.config)
    network.load_state_dict(loaded, strict=True)
    assert network.stems == len(model.card.stems) == 3


def golden_state(folder: Path, stage: str) -> dict[str, Tensor]:
    checkpoints = json.loads((folder / "config.json").read_text())["checkpoints"]

    def expand(which: str) -> dict[str, Tensor]:
        state: dict[str, Tensor] = {}
        for name in checkpoints[which]["files"]:
            state |= load_file(folder / name)
        for alias in checkpoints[which]["aliases"]:
            same = alias["same_tensors_as"]
            source = state if same["checkpoint"] == which else expand(same["checkpoint"])
            pairs = [(key, value) for key, value in source.items() if key.startswith(same["prefix"])]
            state |= {alias["alias_prefix"] + key.removeprefix(same["prefix"]): value for key, value in pairs}
        return state

    state = expand(stage)
    assert len(state) == checkpoints[stage]["num_keys_in_lightning_state_dict"]
    return state


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="STEMLINE_GOLDEN is not there")
@pytest.mark.parametrize("stage", ["det", "diffusion", "cd"])
@pytest.mark.parametrize("folder", ["unet", "bs_roformer"])
def test_golden_twin_sounds_the_same_after_import(
    home: Path, foreign: Callable[[], Any], folder: str, stage: str
) -> None:
    state = golden_state(GOLDEN / folder, stage)
    path = save(home / "model.ckpt", state, {"args": argparse.Namespace(x=[1]), "distribution": foreign()})
    golden_config = json.loads((GOLDEN / folder / "config.json").read_text())
    model = import_checkpoint(path, ImportOptions(name="twin", configuration=golden_config))
    imported = registry.build(model.card.architecture, model.card.config)
    imported.load_state_dict(load_file(model.weight_paths[0]), strict=True)
    direct = direct_model(golden_config, state, stage)
    mixture = torch.randn(1, model.card.channels, 8192, generator=torch.Generator().manual_seed(0)) * 0.1
    with torch.no_grad():
        stems, features = imported.eval().separate(mixture)
        other, _ = direct.eval().separate(mixture)
        assert torch.equal(stems, other)
        if stage != "det":
            sigma = torch.tensor([0.01])
            refined = [net.denoise(stems, sigma, features, consistency_scalings) for net in (imported, direct)]
            assert torch.equal(*refined)
            assert not torch.equal(refined[0], stems)


def direct_model(golden: dict[str, Any], state: dict[str, Tensor], stage: str) -> Any:
    """The golden weights put into our networks without the importer."""
    config = golden["config"]
    networks = (config["model"],) * 2 if "model" in config else (config["deterministic"], config["refiner"])
    sigma_data = config["consistency"]["sigma_data"]
    raw = {"separator": networks[0], "refiner": None if stage == "det" else networks[1], "sigma_data": sigma_data}
    model = registry.build(f"dicose_{golden['backbone']}", raw)
    weights = under("separator.", state, "model.unet." if stage == "det" else FROZEN)
    if stage != "det":
        weights |= under("refiner.", state, "net.model.unet." if stage == "cd" else "model.unet.")
    model.load_state_dict(weights, strict=True)
    return model


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="STEMLINE_GOLDEN is not there")
@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("Deterministic_model_unet", "det"),
        ("diffusion_model_unet", "diffusion"),
        ("CD_unet", "cd"),
        ("Deterministic_model_MSST_bs_roformer", "det"),
        ("diffusion_model_MSST_bs_roformer", "diffusion"),
        ("CD_MSST_bs_roformer", "cd"),
    ],
)
def test_full_size_checkpoint_is_recognised_without_any_configuration(name: str, stage: str) -> None:
    keys = json.loads((GOLDEN / "checkpoint_keys.json").read_text())
    state = {
        prefix + key: StoredTensor("0", "F32", tuple(shape), (), 0, 0)
        for prefix, subtree in keys["checkpoints"][name]["prefixes"].items()
        for key, shape in keys["subtrees"][subtree].items()
    }
    assert len(state) == keys["checkpoints"][name]["total_keys"]
    plan = lightning.plan_import(state, {}, None)
    assert plan.stage == stage
    assert plan.parts.keys() == plan.network_keys


KEY = "net.model.unet.to_mapping.0.weight"


def test_missing_key_is_named(home: Path) -> None:
    def drop(state: dict[str, Tensor]) -> None:
        for prefix in ("net", "target_model", "teacher_model"):
            del state[KEY.replace("net", prefix, 1)]

    with pytest.raises(lightning.KeysDoNotFit, match=r"1 missing: refiner\.to_mapping\.0\.weight"):
        import_checkpoint(small_cd(home, drop), ImportOptions())


def test_surplus_key_is_named(home: Path) -> None:
    def add(state: dict[str, Tensor]) -> None:
        state[FROZEN + "surplus"] = torch.zeros(3)

    with pytest.raises(lightning.KeysDoNotFit, match=r"1 unused: separator\.surplus"):
        import_checkpoint(small_cd(home, add), ImportOptions())


def test_key_of_no_known_copy_is_named(home: Path) -> None:
    with pytest.raises(lightning.KeysDoNotFit, match="no known copy: stranger"):
        import_checkpoint(small_cd(home, lambda state: state.update(stranger=torch.zeros(1))), ImportOptions())


def test_wrong_shape_is_named(home: Path) -> None:
    key = FROZEN + "to_mapping.0.bias"
    with pytest.raises(lightning.KeysDoNotFit, match=r"1 of another shape: separator\.to_mapping\.0\.bias \(5,\)"):
        import_checkpoint(small_cd(home, lambda state: state.update({key: torch.zeros(5)})), ImportOptions())


def test_copies_of_different_networks_are_refused(home: Path) -> None:
    with pytest.raises(lightning.KeysDoNotFit, match="copy below teacher_model"):
        import_checkpoint(
            small_cd(home, lambda state: state.update({KEY.replace("net", "teacher_model", 1): torch.zeros(5)})),
            ImportOptions(),
        )


def test_what_shapes_do_not_show_is_asked_for(home: Path) -> None:
    path = save(home / "model.ckpt", lightning_state("dicose_bs_roformer", "det")[0])
    with pytest.raises(ConfigurationNeeded, match="stft_hop_length"):
        import_checkpoint(path, ImportOptions())
    model = import_checkpoint(path, ImportOptions(configuration={"stft_hop_length": 15}))
    assert model.card.config["separator"]["stft_hop_length"] == 15


def test_configuration_that_the_weights_contradict_is_refused(home: Path) -> None:
    path = small_cd(home, lambda state: None)
    with pytest.raises(ConfigurationContradicted, match="channels = 99"):
        import_checkpoint(path, ImportOptions(configuration={"channels": 99}))


def test_foreign_network_is_refused(home: Path) -> None:
    with pytest.raises(UnknownNetwork):
        import_checkpoint(save(home / "a.ckpt", {"model.unet.weight": torch.zeros(1)}), ImportOptions())
    with pytest.raises(UnknownNetwork):
        import_checkpoint(save(home / "b.ckpt", {"encoder.weight": torch.zeros(1)}), ImportOptions())


def test_model_of_the_same_name_is_kept_unless_told(home: Path) -> None:
    path = small_cd(home, lambda state: None)
    import_checkpoint(path, ImportOptions())
    with pytest.raises(lightning.ModelExists, match="--replace"):
        import_checkpoint(path, ImportOptions())
    import_checkpoint(path, ImportOptions(replace=True))
    assert [entry.name for entry in (home / "home" / "models").iterdir()] == ["dicose-unet"]


@pytest.mark.parametrize("name", ["../evil", "", "a/b", ".hidden"])
def test_name_cannot_leave_the_model_directory(home: Path, name: str) -> None:
    with pytest.raises(lightning.BadModelName):
        import_checkpoint(small_cd(home, lambda state: None), ImportOptions(name=name))
