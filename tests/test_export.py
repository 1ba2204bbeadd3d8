"""Promises of the export: what the server loads is what was trained, in files of the size asked for, and says so."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY_STEMS
from safetensors.torch import load_file, save_file

from pyserver.engine.messages import SeparationSettings, WindowRequest
from pyserver.engine.torch_backend import TorchBackend
from pyserver.models import catalogue, registry
from pyserver.models.interface import ModelHasNoRefiner
from training.cards import BadInput
from training.export import Arguments, export
from training.separate import local_model
from training.shards import MIB, ShardTooSmall, shards

RATE_HZ = 44100


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> Path:
    """Folders as training leaves them, of the tiny model's two parts."""
    root = tmp_path_factory.mktemp("runs")
    card = catalogue.load_installed(tiny_model_dir / "stemline-small").card
    model = registry.build(card.architecture, card.config)
    model.load_state_dict(load_file(tiny_model_dir / "stemline-small" / "model.safetensors"))
    for stage, part in (("separator", "separator"), ("diffusion", "refiner"), ("consistency", "refiner")):
        folder = root / stage
        folder.mkdir()
        config = {
            "stage": stage, "steps": 99, "batch_size": 4, "crop": {"samples": 132300}, "stems": card.stems,
            "sample_rate_hz": 44100, "channels": 2, "architecture": "band_split",
            "network": {**card.config, "sigma_min": 0.001},
        }  # fmt: skip
        (folder / "config.json").write_text(json.dumps(config))
        rows = [{"step": 1250, "loss": 1.0}, {"step": 1300, "validation": {"mean": 3.0}}]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        weights = model.get_submodule(part).state_dict()
        save_file({key: value.contiguous() for key, value in weights.items()}, folder / "average.safetensors")
    return root


def arguments(folder: Path, out: Path, **settings: object) -> Arguments:
    chosen = {"separator": folder / "separator", "refiner": folder / "consistency", "name": "exported", **settings}
    return Arguments(out=out, **chosen)  # type: ignore[arg-type]


def song() -> np.ndarray:
    return 0.1 * np.random.default_rng(0).standard_normal((2, RATE_HZ)).astype(np.float32)


def test_the_server_loads_shards_and_hears_no_difference(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_models: Path
) -> None:
    whole = export(arguments(runs, tmp_path / "whole" / "exported", sigma_max=0.1))
    cut = export(arguments(runs, tmp_path / "released" / "exported", sigma_max=0.1, shard_mb=0.7))
    assert whole.card.weights == ("model.safetensors",)
    assert len(cut.card.weights) > 2
    assert cut.card.weights[0] == f"model-00001-of-{len(cut.card.weights):05d}.safetensors"
    assert all(path.stat().st_size <= 0.7 * MIB for path in cut.weight_paths)

    monkeypatch.setenv("STEMLINE_MODELS", str(tmp_path / "released"))
    backend = TorchBackend("cpu", 1)
    backend.load("exported", measure=False)
    window = WindowRequest("exported", song(), RATE_HZ, 0, (0, RATE_HZ), SeparationSettings(1, 0))
    (served,) = backend.separate([window])
    monkeypatch.setenv("STEMLINE_MODELS", str(tmp_path / "whole"))
    other = TorchBackend("cpu", 1)
    other.load("exported", measure=False)
    assert np.array_equal(served.stems_SCN, other.separate([window])[0].stems_SCN)
    trained = local_model(str(tiny_models / "stemline-small")).network.state_dict()
    exported = local_model("exported").network.state_dict()
    assert all(torch.equal(value, exported[key]) for key, value in trained.items())


def test_checksums_are_those_of_the_files(runs: Path, tmp_path: Path) -> None:
    model = export(arguments(runs, tmp_path / "exported", shard_mb=0.7))
    lines = (tmp_path / "exported" / "SHA256SUMS").read_text().splitlines()
    read = {name: digest for digest, name in (line.split("  ") for line in lines)}
    assert set(read) == {*model.card.weights, "card.json"}
    for name, digest in read.items():
        assert hashlib.sha256((tmp_path / "exported" / name).read_bytes()).hexdigest() == digest
    assert {name: read[name] for name in model.card.weights} == model.card.sha256
    catalogue.verify(model)


def test_an_export_replaces_the_last_one_whole(runs: Path, tmp_path: Path) -> None:
    export(arguments(runs, tmp_path / "exported", shard_mb=0.7))
    export(arguments(runs, tmp_path / "exported"))
    assert {path.name for path in (tmp_path / "exported").iterdir()} == {"card.json", "model.safetensors", "SHA256SUMS"}
    with pytest.raises(ShardTooSmall):
        export(arguments(runs, tmp_path / "exported", shard_mb=0.001))
    catalogue.verify(catalogue.load_installed(tmp_path / "exported"))
    assert [path.name for path in tmp_path.iterdir()] == ["exported"]


def test_shards_keep_all_tensors_in_order() -> None:
    weights = {f"layer.{index}": torch.full((1000 + index,), float(index)) for index in range(20)}
    parts = shards(weights, 20000)
    assert [key for part in parts for key in part] == list(weights)
    assert len(parts) > 1
    assert shards(weights, None) == [weights]
    with pytest.raises(ShardTooSmall, match=r"layer\.0 alone"):
        shards(weights, 3000)


def test_the_best_weights_are_taken_where_a_run_kept_them(runs: Path, tmp_path: Path) -> None:
    copy = tmp_path / "separator"
    copy.mkdir()
    for path in (runs / "separator").iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    weights = load_file(copy / "average.safetensors")
    save_file({key: value + 1 for key, value in weights.items()}, copy / "best.safetensors")
    exported = export(arguments(runs, tmp_path / "exported", separator=copy))
    found = load_file(exported.weight_paths[0])
    assert all(torch.equal(found[f"separator.{key}"], value + 1) for key, value in weights.items())


def test_the_card_says_data_hours_steps_licences_and_figures(runs: Path, tmp_path: Path) -> None:
    manifest = {
        "split": "train", "tracks": 1002, "minutes": 660.0,
        "song_sources": {"freedoom": {"tracks": 400, "licence": "BSD-3-Clause"}},
        "sounds": {"FluidR3_GM": {"stems": 1500, "licence": "MIT"}},
    }  # fmt: skip
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "sweep.json").write_text(json.dumps({"best": {"1": 0.02, "2": 0.04}}))
    out = tmp_path / "exported"
    settings = {"data": (tmp_path / "manifest.json",), "sweep": tmp_path / "sweep.json",
                "runs": (runs / "diffusion",), "training_data": "No real recordings."}  # fmt: skip
    first = export(arguments(runs, out, **settings)).card
    for words in ("11.0 h, 1,002 excerpts", "freedoom (BSD-3-Clause)", "FluidR3_GM (MIT)", "No real recordings.",
                  "Separator 1,300 steps of 12 s", "diffusion 1,300 steps", "consistency 1,300 steps"):  # fmt: skip
        assert words in first.training_data
    assert first.refiner is not None
    assert (first.refiner.kind, first.refiner.sigma_max, first.refiner.default_steps) == (
        "consistency", {1: 0.02, 2: 0.04}, 1,
    )  # fmt: skip
    figures = dict.fromkeys(TINY_STEMS, 3.14159)
    report = {
        "weights_sha256": first.weights_sha256,
        "metrics": {"si_sdr_i": "SI-SDR improvement"},
        "sets": {
            "test-font": {"songs": 30, "minutes": 21.0, "steps": {"0": {"si_sdr_i": figures, "sdr": {"bass": None}}}}
        },
    }
    (tmp_path / "figures.json").write_text(json.dumps(report))
    second = export(arguments(runs, out, **settings, quality=(tmp_path / "figures.json",))).card
    assert second.weights_sha256 == first.weights_sha256
    assert second.quality["metric"] == "SI-SDR improvement"
    assert second.quality["sets"] == {"test-font": {"songs": 30, "minutes": 21.0}}
    assert second.quality["test-font, 0 steps"]["bass"] == 3.14
    assert second.quality["test-font, 0 steps, sdr"] == {"bass": None}

    report["weights_sha256"] = "another model's"
    (tmp_path / "figures.json").write_text(json.dumps(report))
    with pytest.raises(BadInput, match="other weights"):
        export(arguments(runs, out, **settings, quality=(tmp_path / "figures.json",)))


def test_what_is_no_run_is_named(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="nowhere"):
        export(arguments(runs, tmp_path / "exported", separator=tmp_path / "nowhere"))
    with pytest.raises(BadInput, match="not a manifest"):
        export(arguments(runs, tmp_path / "exported", data=(runs / "separator" / "config.json",)))


def test_a_teacher_and_a_separator_alone_can_be_exported(runs: Path, tmp_path: Path) -> None:
    teacher = export(arguments(runs, tmp_path / "teacher", refiner=runs / "diffusion")).card.refiner
    assert teacher is not None
    assert teacher.kind == "edm"
    export(arguments(runs, tmp_path / "alone", refiner=None))
    alone = local_model(str(tmp_path / "alone"))
    assert alone.separator(0)(song()).shape == (5, 2, RATE_HZ)
    with pytest.raises(ModelHasNoRefiner):
        alone.separator(1)
