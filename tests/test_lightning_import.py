"""Published checkpoints are imported strictly, from the right copies, and nothing inside a file is ever run."""

import argparse
import json
import os
import pickle
import sys
import types
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from pyserver.diffusion.scalings import consistency_scalings
from pyserver.models import catalogue, lightning, registry
from pyserver.models.configuration import ConfigurationContradicted, ConfigurationNeeded, UnknownNetwork
from pyserver.models.lightning import ImportOptions, import_checkpoint
from pyserver.models.torch_archive import (
    LegacyCheckpoint,
    NotACheckpoint,
    StoredTensor,
    TorchArchive,
    TruncatedCheckpoint,
)

GOLDEN = Path(os.environ.get("STEMLINE_GOLDEN", Path(__file__).parents[1] / "../shared/golden"))
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


def small_cd(home: Path, change: Callable[[dict[str, Tensor]], None]) -> Path:
    state, _ = lightning_state("dicose_unet", "cd")
    change(state)
    return save(home / "model.ckpt", state, {"model": UNET})


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


def damage_every_tensor(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            start = info.header_offset
            extra = int.from_bytes(raw[start + 28 : start + 30], "little")
            if "/data/" in info.filename:
                raw[start + 30 + len(info.filename) + extra] ^= 1
    path.write_bytes(raw)


def test_failed_import_leaves_nothing(home: Path) -> None:
    path = small_cd(home, lambda state: None)
    damage_every_tensor(path)
    with pytest.raises(TruncatedCheckpoint, match="damaged"):
        import_checkpoint(path, ImportOptions())
    assert list((home / "home" / "models").iterdir()) == []


class Hostile:
    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.witness}",)


class HostileByBuild:
    """Tries to put its own function where ours is, then to have it called."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[Any, ...]:
        return eval, (f"open({str(self.witness)!r}, 'w')",), {"__setstate__": print}


@pytest.mark.parametrize("hostile", [Hostile, HostileByBuild])
def test_hostile_file_runs_nothing(home: Path, hostile: Callable[[Path], Any]) -> None:
    witness = home / "witness"
    state, _ = lightning_state("dicose_unet", "det")
    path = save(home / "model.ckpt", state, {"model": UNET, "evil": [hostile(witness)]})
    model = import_checkpoint(path, ImportOptions())
    assert model.card.name == "dicose-unet-separator"
    assert not witness.exists()
    torch.load(path, weights_only=False)  # the file does what it is meant to: the proof above is one
    assert witness.exists()


def test_hostile_state_dict_runs_nothing(home: Path) -> None:
    witness = home / "witness"
    path = home / "model.ckpt"
    torch.save({"state_dict": Hostile(witness)}, path)
    with pytest.raises(NotACheckpoint, match="no state_dict"):
        import_checkpoint(path, ImportOptions())
    assert not witness.exists()


def test_tensor_that_reaches_beyond_its_storage_is_refused(home: Path) -> None:
    path = save(home / "model.ckpt", {"model.unet.weight": torch.zeros(4)})
    hostile = home / "hostile.ckpt"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(hostile, "w") as new:
        for info in old.infolist():
            data = old.read(info)
            if info.filename.endswith("data.pkl"):
                assert data.count(b"K\x04\x85") == 1
                data = data.replace(b"K\x04\x85", b"K\x63\x85")  # shape (4,) becomes (99,)
            new.writestr(info.filename, data)
    with pytest.raises(NotACheckpoint, match="beyond its storage"):
        TorchArchive(hostile)


def test_truncated_file_is_told_apart(home: Path) -> None:
    path = small_cd(home, lambda state: None)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(TruncatedCheckpoint, match="download it again"):
        import_checkpoint(path, ImportOptions())


def test_old_pickle_format_is_refused_unread(home: Path) -> None:
    witness = home / "witness"
    path = home / "model.ckpt"
    path.write_bytes(pickle.dumps({"state_dict": Hostile(witness)}))
    with pytest.raises(LegacyCheckpoint, match=r"before 1\.6"):
        import_checkpoint(path, ImportOptions())
    torch.save({"a": torch.zeros(1)}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(LegacyCheckpoint):
        import_checkpoint(path, ImportOptions())
    assert not witness.exists()


@pytest.mark.parametrize("content", [b"", b"hello", b"PK", b"RIFF....WAVE"])
def test_other_files_are_no_checkpoints(home: Path, content: bytes) -> None:
    (home / "a.ckpt").write_bytes(content)
    with pytest.raises((NotACheckpoint, TruncatedCheckpoint)):
        import_checkpoint(home / "a.ckpt", ImportOptions())


def test_missing_file_and_plain_zip(home: Path) -> None:
    with pytest.raises(NotACheckpoint, match="cannot be read"):
        import_checkpoint(home / "no.ckpt", ImportOptions())
    with zipfile.ZipFile(home / "a.ckpt", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(NotACheckpoint, match=r"torch\.save"):
        import_checkpoint(home / "a.ckpt", ImportOptions())


def test_every_kind_of_tensor_is_read_exactly(home: Path) -> None:
    tensors = {
        "transposed": torch.randn(4, 5).t(),
        "half": torch.randn(3).half(),
        "slice of bfloat16": torch.randn(3, 2).bfloat16()[1:],
        "scalar": torch.tensor(4),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(torch.randn(2, 3)),
        "bool": torch.tensor([True, False]),
    }
    with TorchArchive(save(home / "a.ckpt", tensors)) as archive:
        for key, tensor in tensors.items():
            stored = archive.root["state_dict"][key]
            assert stored.shape == tuple(tensor.shape)
            raw = tensor.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes()
            assert archive.read(stored) == raw


def with_pickle(home: Path, data: bytes) -> Path:
    """A checkpoint with this in place of its pickle."""
    path, hostile = save(home / "model.ckpt", {"model.unet.weight": torch.zeros(4)}), home / "hostile.ckpt"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(hostile, "w") as new:
        for info in old.infolist():
            new.writestr(info.filename, data if info.filename.endswith("data.pkl") else old.read(info))
    return hostile


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02]r\xff\xff\xff\xff.",  # a memo of four thousand million entries
        b"\x80\x02c__main__\nNo\n)\x81}b.",
        b"\x80\x02cbuiltins\ngetattr\n(cos\nsystem\nX\x01\x00\x00\x00at R.",
        b"\x80\x02.",
        b"",
    ],
)
def test_malformed_pickle_is_refused_in_no_time(home: Path, data: bytes) -> None:
    with pytest.raises(NotACheckpoint):
        import_checkpoint(with_pickle(home, data), ImportOptions())


def test_hyper_parameters_may_refer_to_each_other_without_end(home: Path) -> None:
    nested: list[Any] = [UNET]
    for _ in range(60):
        nested = [nested, nested]
    nested.append(nested)
    path = save(home / "model.ckpt", lightning_state("dicose_unet", "det")[0], {"nested": nested})
    assert import_checkpoint(path, ImportOptions()).card.config["separator"]["attention_heads"] == 2
